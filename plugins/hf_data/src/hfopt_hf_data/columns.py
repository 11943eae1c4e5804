"""The columns that a config names, or means where there is only one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_hf_data.messages import listed, repr_of, unknown

if TYPE_CHECKING:
    import datasets

_STRINGS = ("string", "large_string")


def text_columns(data: datasets.Dataset, wanted: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The columns to tokenise: those wanted, else the only one with text besides the labels.

    :raises PreconditionFailed: a column that is not there, or more than one to choose from
    """
    check_columns(data, [*wanted, *labels])
    if wanted:
        return list(wanted)
    text = [name for name, feature in data.features.items() if getattr(feature, "dtype", None) in _STRINGS]
    found = [name for name in text if name not in labels]
    if len(found) != 1:
        raise PreconditionFailed(
            f"which column holds the text? The columns are {listed(data.column_names)}", hint="set input_cols"
        )
    return found


def check_columns(data: datasets.Dataset, columns: Sequence[str]) -> None:
    """Every column must be there.

    :raises PreconditionFailed: one is not
    """
    for name in columns:
        if name not in data.column_names:
            raise unknown(f"the data have no column {repr_of(name)}; they have", name, data.column_names)
        if not _is_plain(data.features[name]):
            kind = type(data.features[name]).__name__
            raise PreconditionFailed(f"column {repr_of(name)} holds {kind}, which is neither text nor a label")


def _is_plain(feature: Any) -> bool:
    """Whether a column's values are what the file holds: others would be opened as images, or from other files."""
    import datasets

    inner = getattr(feature, "feature", None)
    if isinstance(feature, dict | list) or inner is not None:
        parts = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else [inner]
        return all(map(_is_plain, parts))
    return isinstance(feature, datasets.Value | datasets.ClassLabel) or type(feature).__name__ == "Json"
