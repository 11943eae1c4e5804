"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from hfopt.base.files import write_atomically


def test_a_file_gets_its_new_text_with_ordinary_permissions_and_nothing_stays_beside_it(tmp_path):
    file = tmp_path / "run.json"
    file.write_text("old")

    write_atomically(file, "größer\n")

    assert file.read_text("utf-8") == "größer\n"
    assert os.listdir(tmp_path) == ["run.json"]
    (tmp_path / "other").touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    file = tmp_path / "run.json"
    file.write_text("old")

    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "half \ud800")

    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]
