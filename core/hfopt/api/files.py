"""How files are written so that no half of one is ever seen, and what may be read, for plugins too."""

from __future__ import annotations

from hfopt.base.files import lock_folder, path_of, read_json, replacing, write_atomically
from hfopt.base.inside import file_inside, regular_file

__all__ = ["file_inside", "lock_folder", "path_of", "read_json", "regular_file", "replacing", "write_atomically"]
