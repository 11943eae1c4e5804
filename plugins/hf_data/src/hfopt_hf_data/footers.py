"""Parquet files, by what their footers declare: a few bytes may stand for any number of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfopt import PreconditionFailed
from hfopt_hf_data.limits import Limits, Readable, too_long, too_much

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "FIXED_LEN_BYTE_ARRAY": 1}


def look(file: Path, limits: Limits) -> Readable:
    """By its footer, and by the dictionaries of its texts.

    :raises PreconditionFailed: it is damaged, or holds more than the limits
    """
    import pyarrow
    from pyarrow import compute, parquet

    try:
        with parquet.ParquetFile(file) as opened:
            about, texts = opened.metadata, _texts(opened.schema_arrow)
        limit = limits.of(file.stat().st_size)
        groups = [about.row_group(group) for group in range(about.num_row_groups)]
        chunks = [group.column(column) for group in groups for column in range(group.num_columns)]
        declared = [_declared(chunk) for chunk in chunks]
        if min([about.num_rows, *(chunk.total_uncompressed_size for chunk in chunks)]) < 0:
            raise PreconditionFailed(f"{file} is damaged: it declares sizes below 0")
        if max(sum(declared), about.num_rows) > limit:
            too_much(file, max(sum(declared), about.num_rows), limit)
        done, widest = 0, 1
        with parquet.ParquetFile(file, read_dictionary=texts) as opened:
            for batch in opened.iter_batches(batch_size=10_000, columns=texts) if texts else ():
                row = 0
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    lengths = compute.binary_length(column.dictionary)
                    longest = compute.max(lengths).as_py() or 0
                    if longest > limits.field:
                        too_long(f"{file}: a value of column {name!r}", limits.field)
                    row += longest
                    done += compute.sum(lengths.take(column.indices)).as_py() or 0
                widest = max(widest, row)
                if done > limit:
                    too_much(file, done, limit)
    except (pyarrow.ArrowException, UnicodeError) as error:
        raise PreconditionFailed(f"{file} can't be read as parquet: {error}") from error
    return Readable(file, widest)


def _declared(chunk: Any) -> int:
    """How many bytes a column's part takes once it is read, at least."""
    return int(max(chunk.total_uncompressed_size, chunk.num_values * _WIDTHS.get(chunk.physical_type, 1)))


def _texts(schema: Any) -> list[str]:
    """The columns of texts, also of those that Arrow is told to keep as a dictionary."""
    import pyarrow

    kinds = (pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.large_binary())
    types = {each.name: each.type for each in schema}
    plain = {name: kind.value_type if pyarrow.types.is_dictionary(kind) else kind for name, kind in types.items()}
    return [name for name, kind in plain.items() if kind in kinds]
