"""Files that rows name, or hold: images and sounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from hfopt import PreconditionFailed
from hfopt.api.files import file_inside
from hfopt_hf_data.columns import check_columns
from hfopt_hf_data.folders import FILE_NAME
from hfopt_hf_data.messages import listed, repr_of
from hfopt_hf_data.preparing import Given, names_of

ROWS = 16
"""That are decoded at a time."""


class Media(NamedTuple):
    """A column of files.

    :param root: below which those lie that it names
    """

    column: str
    root: Path | None

    def content(self, value: Any, row: int) -> BytesIO | Path:
        """What a row holds, or the file that it names.

        :raises PreconditionFailed: it has none, or names one that is not below the root
        """
        held = value if isinstance(value, dict) else {"path": value}
        if held.get("bytes") is not None:
            return BytesIO(held["bytes"])
        path = held.get("path")
        if not isinstance(path, str) or not path:
            raise PreconditionFailed(f"row {row} has {repr_of(value)} in column {repr_of(self.column)}, and no file")
        if self.root is None:
            raise PreconditionFailed(
                f"column {repr_of(self.column)} names files, such as {repr_of(path)}",
                hint="set data_dir to the folder in which they lie",
            )
        try:
            return file_inside(self.root / path, self.root)
        except (OSError, PreconditionFailed) as error:
            raise PreconditionFailed(f"row {row}: {error}") from error


def media_of(given: Given, kind: str, labels: Sequence[str]) -> tuple[Given, Media]:
    """The column of files, none of which is opened yet.

    :param kind: of `datasets`' features: Image or Audio
    :param labels: columns that are none of it
    """
    data = given.data
    files = [name for name, feature in data.features.items() if type(feature).__name__ == kind]
    wanted = names_of(given.config.input_cols) or files
    known = (kind.lower(), FILE_NAME)
    wanted = wanted or [name for name in known if name in data.column_names and name not in labels][:1]
    if len(wanted) != 1:
        raise PreconditionFailed(
            f"which column holds the {kind.lower()}? The columns are {listed(data.column_names)}", hint="set input_cols"
        )
    if wanted[0] not in files:
        check_columns(data, wanted)
        return given, Media(wanted[0], given.root)
    import datasets

    unopened = data.cast_column(wanted[0], getattr(datasets, kind)(decode=False))
    return replace(given, data=unopened), Media(wanted[0], given.root)
