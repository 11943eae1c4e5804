"""Hostile data: files and folders that no reader may hang on, be filled by, believe or stumble over.

Rows are prepared in a process that is forked from one with the libraries imported; a few attempts are whole runs.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import importlib
import io
import json
import lzma
import os
import pickle
import random
import resource
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import world
from world import Attempt, raised

TITLE, LEAST, SHARE = "hostile data", 100, 2.0
SECONDS, MEBIBYTES = 20, 1024
"""In which rows are prepared or refused, and memory above that of the libraries."""
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a"]
ROWS = [("a good film", 1), ("bad", 0), ("a bad bad film", 0), ("good good", 1)] * 25
WHOLE = ("a named pipe", "a link to /etc/passwd", "a gzip bomb", "a missing label", "a name with an escape")
"""Tried by a whole `hfopt run` too."""
_LOCK = threading.Lock()
PRELOADED = ("datasets", "pandas", "pyarrow.dataset", "pyarrow.parquet", "hfopt.testing", "hfopt_hf_data.prepare")
MARK = "executed"
"""A file that code in the data would write."""


@dataclass(frozen=True)
class Case:
    """Data that are made, and what may come of them.

    :param make: into a folder, whose file ``rows`` with a suffix it is, or which it returns; further options
    :param name: of the format, or what makes ``data_name``
    :param says: words that the refusal must hold, one of them; empty: the file's name is enough
    :param rows: how many rows there are if it is not refused; None: it must be refused
    """

    make: Callable[[Path], Mapping[str, Any] | None]
    kind: str
    says: tuple[str, ...] = ()
    rows: int | None = None
    file: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The file's own."""
        return self.file or {"json": "rows.jsonl", "folder": "set"}.get(self.kind, f"rows.{self.kind}")


def content(data: bytes | str, kind: str, *says: str, rows: int | None = None, file: str = "", **options: Any) -> Case:
    """A file that holds these bytes."""
    written = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    name = Case(_nothing, kind, file=file).file_name
    return Case(lambda folder: _write(folder / name, written), kind, says, rows, file, options)


def _nothing(folder: Path) -> None:
    """Make nothing."""


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def csv_of(rows: list[tuple[Any, Any]], header: str = "text,label") -> str:
    return "\n".join([header, *(f"{text},{label}" for text, label in rows)]) + "\n"


def jsonl_of(rows: list[tuple[Any, Any]]) -> str:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


def parquet_of(columns: Mapping[str, Any], **options: Any) -> bytes:
    import pyarrow
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(dict(columns)), stream, **options)
    return stream.getvalue()


def arrow_of(columns: Mapping[str, Any], **options: Any) -> bytes:
    import pyarrow

    table, stream = pyarrow.table(dict(columns)), io.BytesIO()
    with pyarrow.ipc.new_file(stream, table.schema, **options) as writer:
        writer.write_table(table)
    return stream.getvalue()


TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]


def good() -> dict[str, tuple[str, bytes]]:
    """Files that are well, by name: the format and the bytes."""
    columns = {"text": TEXTS, "label": LABELS}
    table = csv_of(ROWS).encode()
    lines = jsonl_of(ROWS).encode()
    return {
        "rows.csv": ("csv", table),
        "rows.jsonl": ("json", lines),
        "rows.json": ("json", json.dumps([dict(zip(columns, row, strict=True)) for row in ROWS]).encode()),
        "rows.parquet": ("parquet", parquet_of(columns)),
        "plain.parquet": ("parquet", parquet_of(columns, use_dictionary=False, compression="none")),
        "rows.arrow": ("arrow", arrow_of(columns)),
        "rows.csv.gz": ("csv", gzip.compress(table, mtime=0)),
        "rows.jsonl.xz": ("json", lzma.compress(lines)),
        "rows.csv.bz2": ("csv", bz2.compress(table)),
    }


class _Bomb:
    def __reduce__(self) -> Any:
        return open, (MARK, "w")


def _zip(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def _tar(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        about = tarfile.TarInfo(name)
        about.size = len(data)
        archive.addfile(about, io.BytesIO(data))
    return stream.getvalue()


def _gzip_bomb(start: bytes, piece: bytes, times: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with gzip.open(folder / "rows.csv.gz", "wb") as stream:
            stream.write(start)
            for _ in range(times):
                stream.write(piece)

    return make


def _socket(folder: Path) -> None:
    before = os.getcwd()
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(os.path.relpath(folder / "rows.csv", before))
    finally:
        made.close()


def _unreadable(folder: Path) -> Mapping[str, Any]:
    _write(folder / "rows.csv", csv_of(ROWS).encode())
    (folder / "rows.csv").chmod(0)
    return {"unprivileged": True}


def _link(target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "rows.csv").symlink_to(target)


def _folder(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        (folder / "set").mkdir()
        make(folder / "set")

    return made


def _linked(name: str, target: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        _write(folder.parent / "outside.csv", csv_of(ROWS).encode())
        (folder / name).symlink_to(target)

    return make


def _card(card: str, *, rows: bool = True) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        _write(folder / "README.md", card.encode())
        if rows:
            _write(folder / "train.csv", csv_of(ROWS).encode())
        _write(folder.parent / "outside.csv", csv_of(ROWS).encode())

    return make


def _script(folder: Path) -> None:
    _write(folder / "set.py", f"open({MARK!r}, 'w')\n".encode())
    _write(folder / "train.csv", csv_of(ROWS).encode())


def _pickles(folder: Path) -> None:
    for name in ("train.pkl", "train.pt", "train.pickle"):
        _write(folder / name, pickle.dumps(_Bomb()))


def _extension(folder: Path) -> None:
    """A column whose type is a pickle, as pyarrow's PyExtensionType once wrote it."""
    import pyarrow

    about = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(_Bomb())}
    fields = [pyarrow.field("text", pyarrow.string(), metadata=about), pyarrow.field("label", pyarrow.int64())]
    table = pyarrow.table([TEXTS, LABELS], schema=pyarrow.schema(fields))
    with pyarrow.ipc.new_file(folder / "rows.arrow", table.schema) as writer:
        writer.write_table(table)


def _images(folder: Path) -> None:
    """Texts that call themselves images, to be read from a place on this machine."""
    import pyarrow
    from pyarrow import parquet

    about = {"info": {"features": {"text": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}}}
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    table = pyarrow.table({"text": pyarrow.array([{"bytes": None, "path": "/etc/passwd"}], kind), "label": [1]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), folder / "rows.parquet")


def _runs(folder: Path) -> None:
    """Labels that are all the same: a few bytes for 300 million rows."""
    import pyarrow
    from pyarrow import parquet

    numbers = pyarrow.nulls(10_000_000, pyarrow.int32())
    schema = pyarrow.schema({"text": pyarrow.int32(), "label": pyarrow.int32()})
    with parquet.ParquetWriter(folder / "rows.parquet", schema, compression="zstd") as writer:
        for _ in range(30):
            writer.write_table(pyarrow.table([numbers, numbers], schema=schema), row_group_size=10_000_000)


def _one_text(times: int, length: int) -> Callable[[Path], None]:
    """One text for many rows, kept once."""

    def make(folder: Path) -> None:
        import pyarrow

        texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * times, pyarrow.int32()), ["x" * length])
        _write(folder / "rows.parquet", parquet_of({"text": texts, "label": [1] * times}, compression="zstd"))

    return make


def _long_list(folder: Path) -> None:
    import pyarrow

    offsets = pyarrow.array([0, 60_000_000], pyarrow.int32())
    values = pyarrow.nulls(60_000_000, pyarrow.int32())
    lists = pyarrow.ListArray.from_arrays(offsets, values)
    _write(folder / "rows.parquet", parquet_of({"text": ["a"], "label": [1], "more": lists}, compression="zstd"))


def _named(name: str | bytes) -> Case:
    """Good rows in a file of an odd name."""
    shown = os.fsdecode(name)
    return Case(lambda folder: _write(folder / shown, csv_of(ROWS).encode()), "csv", (), len(ROWS), shown)


def _foreign(folder: Path) -> None:
    _write(folder / os.fsdecode(b"tr\xffain.csv"), csv_of(ROWS).encode())


def _no_more(kind: str, name: str, data: bytes) -> Case:
    return content(data[: len(data) * 2 // 3], kind, "", file=name)


def _wide(count: int) -> str:
    return ",".join(["text", "label", *(f"c{number}" for number in range(count))]) + "\ngood,1" + ",0" * count + "\n"


def _card_of(files: str) -> str:
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {files}\n---\n"


def cases() -> dict[str, Case]:
    """Those made by hand, by what they are."""
    long, files = "x" * 20_000_000, good()
    line = json.dumps({"text": "good", "label": 1})
    bomb_card = (
        "---\n"
        + "a: &a [x, x, x]\n"
        + "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]" for n in range(12))
        + "\nconfigs: *m\n---\n"
    )
    found = {
        # what is no file
        "a named pipe": Case(lambda folder: os.mkfifo(folder / "rows.csv"), "csv", ("named pipe",)),
        "a socket": Case(_socket, "csv", ("socket",)),
        "/dev/zero": Case(_link("/dev/zero"), "csv", ("device",)),
        "/dev/stdin": Case(_nothing, "csv", ("device", "named pipe", "socket"), file="/dev/stdin"),
        "/dev/null": Case(_link("/dev/null"), "csv", ("device",)),
        "a folder for a file": Case(lambda folder: (folder / "rows.csv").mkdir(), "csv", ("folder",)),
        "a link to nothing": Case(_link("nowhere"), "csv", ("no such file",)),
        "a link to itself": Case(_link("rows.csv"), "csv"),
        "an unreadable file": Case(_unreadable, "csv", ("can't be read",)),
        "a file of /proc that never ends": Case(_link("/proc/self/mem"), "csv"),
        "pipes as json": Case(lambda folder: os.mkfifo(folder / "rows.jsonl"), "json", ("named pipe",)),
        "pipes as parquet": Case(lambda folder: os.mkfifo(folder / "rows.parquet"), "parquet", ("named pipe",)),
        "pipes as arrow": Case(lambda folder: os.mkfifo(folder / "rows.arrow"), "arrow", ("named pipe",)),
        "pipes as text": Case(lambda folder: os.mkfifo(folder / "rows.text"), "text", ("named pipe",)),
        # data folders
        "a link out of a folder": Case(_folder(_linked("train.csv", "../outside.csv")), "folder", ("lies outside",)),
        "a link to /etc/passwd": Case(_folder(_linked("train.csv", "/etc/passwd")), "folder", ("lies outside",)),
        "a folder linked out of a folder": Case(_folder(_linked("train", "..")), "folder"),
        "a pipe in a folder": Case(_folder(lambda folder: os.mkfifo(folder / "train.csv")), "folder"),
        "a device in a folder": Case(_folder(_linked("train.csv", "/dev/zero")), "folder"),
        "a dangling link in a folder": Case(_folder(_linked("train.csv", "nowhere")), "folder"),
        "an empty folder": Case(_folder(_nothing), "folder", ("no files",)),
        "a card that names files outside": Case(_folder(_card(_card_of("../outside.csv"))), "folder"),
        "a card that names /etc/passwd": Case(_folder(_card(_card_of("/etc/passwd"))), "folder"),
        "a card that names a URL": Case(_folder(_card(_card_of("http://[::1]:9/x"))), "folder", ("elsewhere",)),
        "a card of aliases": Case(_folder(_card(bomb_card)), "folder", ("aliases",)),
        "a card that is nested deeply": Case(
            _folder(_card("---\na: " + "[" * 50_000 + "\n---\n")), "folder", ("card",)
        ),
        "a card with a tag of Python": Case(
            _folder(_card(f"---\nconfigs: !!python/object/apply:os.mknod [{MARK}]\n---\n")), "folder", ("card",)
        ),
        "a card that is a link out": Case(_folder(_linked("README.md", "../outside.csv")), "folder", ("lies outside",)),
        "a card that is huge": Case(_folder(_card("x" * 11_000_000)), "folder", ("larger",)),
        "a card that is a pipe": Case(_folder(lambda folder: os.mkfifo(folder / "README.md")), "folder", ("pipe",)),
        "a script in a folder": Case(_folder(_script), "folder", ("script",)),
        "pickles in a folder": Case(_folder(_pickles), "folder", ("no files",)),
        "a pickle as csv": content(pickle.dumps(_Bomb()), "csv"),
        "a pickle as arrow": content(pickle.dumps(_Bomb()), "arrow"),
        "a pickle in the type of a column": Case(_extension, "arrow", rows=len(ROWS)),
        "texts that are images": Case(_images, "parquet", ("Image",), options={"input_cols": ["text"]}),
        # sizes
        "a gzip bomb": Case(
            _gzip_bomb(b"text,label\n", b"good,1\n" * 100_000, 1_000), "csv", ("max_bytes",), file="rows.csv.gz"
        ),
        "a gzip bomb of one field": Case(
            _gzip_bomb(b'text,label\n"', b"x" * 1_000_000, 90), "csv", ("max_field_bytes",), file="rows.csv.gz"
        ),
        "a zip bomb": content(_zip("rows.csv", bytes(50_000_000)), "csv", "zip archive", file="rows.zip"),
        "a zip that leads out": content(
            _zip("../../out.csv", csv_of(ROWS).encode()), "csv", "zip archive", file="rows.zip"
        ),
        "a tar that leads out": content(
            _tar("../out.csv", csv_of(ROWS).encode()), "csv", "tar archive", file="rows.tar"
        ),
        "compressed twice": content(
            gzip.compress(gzip.compress(b"text,label\na,1\n")), "csv", "twice", file="rows.csv.gz"
        ),
        "zstd": content(b"\x28\xb5\x2f\xfd" + bytes(50), "csv", "zstd", file="rows.csv.zst"),
        "a csv field of 20 MB": content(f"text,label\n{long},1\n", "csv", "max_field_bytes"),
        "a quoted field that never ends": content('text,label\n"' + "x,\n" * 5_000_000, "csv", "max_field_bytes"),
        "a short quoted field that never ends": content('text,label\n"good,1\nbad,0\n', "csv"),
        "a JSON text of 20 MB": content(json.dumps({"text": long, "label": 1}), "json", "max_field_bytes"),
        "an array with 20 MB": content(json.dumps([{"text": long, "label": 1}]), "json", "max_field_bytes"),
        "one JSON object of 20 MB": content('{"text": [\n' + '"a",\n' * 4_000_000 + '"a"]}', "json", "max_field_bytes"),
        "a line of text of 20 MB": content(long, "text", "max_field_bytes", label_cols=None),
        "a parquet text of 20 MB": content(parquet_of({"text": [long], "label": [1]}), "parquet", "max_field_bytes"),
        "an arrow text of 20 MB": content(arrow_of({"text": [long], "label": [1]}), "arrow", "max_field_bytes"),
        "300 million equal rows in parquet": Case(_runs, "parquet", ("max_bytes",)),
        "one text of 1 MB for 100,000 rows": Case(_one_text(100_000, 1_000_000), "parquet", ("max_bytes",)),
        "a list of 60 million in parquet": Case(_long_list, "parquet", ("max_bytes",)),
        "300 texts of 20 kB": content(csv_of([("good " * 4_000, 1)] * 300), "csv", rows=300),
        "10,000 columns": content(_wide(10_000), "csv", "", rows=1, input_cols=["text"]),
        "10,000 columns, none chosen": content(",".join(f"c{n}" for n in range(10_000)) + "\n", "csv"),
        # text that is none
        "bytes that are no UTF-8": content(b"text,label\na,1\n\xff\xfe,0\n", "csv", "line 3"),
        "Latin-1": content("text,label\ncafé,1\n".encode("latin-1"), "csv", "line 2"),
        "UTF-16": content("text,label\ngood,1\n".encode("utf-16"), "csv", "UTF-8"),
        "no UTF-8 in jsonl": content(b'{"text": "\xff", "label": 1}\n', "json", "line 1"),
        "no UTF-8 in a JSON array": content(b'[{"text": "\xff", "label": 1}]', "json", "UTF-8"),
        "no UTF-8 in text": content(b"good\n\xc3\x28\n", "text", "line 2", label_cols=None),
        "no UTF-8 in parquet": Case(_no_utf8, "parquet"),
        "a byte order mark in csv": content("\ufeff" + csv_of(ROWS), "csv", rows=len(ROWS)),
        "a byte order mark in jsonl": content("\ufeff" + jsonl_of(ROWS), "json", rows=len(ROWS)),
        "a byte order mark in text": content("\ufeffgood\n", "text", rows=1, label_cols=None),
        "NUL in csv": content("text,label\ngo\0od,1\n", "csv", "NUL"),
        "NUL in jsonl": content('{"text": "a\0b", "label": 1}\n', "json", "NUL"),
        "only NUL": content(bytes(10_000), "csv", "NUL"),
        "a lone surrogate in JSON": content(line + '\n{"text": "\\ud800", "label": 1}\n', "json", "line 2"),
        "a lone surrogate in an array": content('[{"text": "\\udfff", "label": 1}]', "json", "row 0"),
        "control characters in a name": content("te\x1b[31mxt,label\ngood,1\n", "csv", "", input_cols=["txet"]),
        # JSON
        "NaN in JSON": content('{"text": "a", "label": NaN}\n', "json", "NaN"),
        "Infinity in JSON": content('[{"text": "a", "label": -Infinity}]', "json", "Infinity"),
        "an integer of 5,000 digits": content('{"text": "a", "label": ' + "9" * 5_000 + "}\n", "json", "digits"),
        "1e999": content('{"text": "a", "label": 1e999}\n', "json"),
        "nested 100,000 deep": content('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "json", "nested"),
        "an array nested 100,000 deep": content("[" * 100_000 + "]" * 100_000, "json", "nested"),
        "an array that does not end": content('[{"text": "a", "label": 1},', "json", "row 1"),
        "an array with no comma": content('[{"text": "a", "label": 1} {"text": "b", "label": 0}]', "json", "row 1"),
        "an array of numbers": content("[1, 2, 3]", "json", "row 0"),
        "numbers for rows": content("1\n2\n", "json", "line 1"),
        "a key that is there twice": content('{"text": "a", "text": "b", "label": 1}\n', "json", "row 0"),
        "broken in the middle": content(jsonl_of(ROWS) + "{oops\n" + jsonl_of(ROWS), "json", "line 101"),
        "rows of other keys": content(line + '\n{"other": 1}\n', "json"),
        "objects and texts for texts": content(line + '\n{"text": {"a": 1}, "label": 1}\n', "json"),
        "an empty array": content("[]", "json"),
        "an empty object": content("{}\n", "json"),
        # tables
        "an empty file": content("", "csv", "empty"),
        "a header alone": content("text,label\n", "csv"),
        "blank lines alone": content("\n\n\n", "csv"),
        "duplicate columns": content("text,text,label\na,b,1\n", "csv", input_cols=["text"], rows=1),
        "a column's name of 10,000 characters": content(f"{'x' * 10_000},label\n1,1\n", "csv", input_cols=["text"]),
        "too many fields": content("text,label\na,1\nb,c,0\n", "csv", "line 3"),
        "too many fields in every row": content("text,label\na,1,\nb,0,\n", "csv", "line 2"),
        "too few fields": content("text,label\na,1\nb\n", "csv", "row 1"),
        "carriage returns": content("text,label\rgood,1\rbad,0\r", "csv", rows=2),
        "csv as json": content(csv_of(ROWS), "json", "JSON", file="rows.csv"),
        "json as csv": content(jsonl_of(ROWS), "csv", file="rows.jsonl"),
        "parquet as csv": content(files["rows.parquet"][1], "csv", file="rows.parquet"),
        "csv as parquet": content(csv_of(ROWS), "parquet", "parquet"),
        "csv as arrow": content(csv_of(ROWS), "arrow"),
        "empty parquet": content(parquet_of({"text": [], "label": []}), "parquet"),
        "empty parquet file": content(b"", "parquet", "empty"),
        "parquet with types of its own": Case(_types, "parquet", ("map",)),
        # labels and texts
        "a missing label": content("text,label\na,1\nb,\n", "csv", "row 1"),
        "a missing label in JSON": content(line + '\n{"text": "a", "label": null}\n', "json", "row 1"),
        "a label of 1e30": content("text,label\na,1e30\n", "csv", "row 0"),
        "a label of -1": content("text,label\na,-1\n", "csv", "row 0"),
        "a label of infinity": content("text,label\na,inf\n", "csv", "row 0"),
        "a label of 1e30 and no classes": content("text,label\na,1e30\n", "csv", "row 0", classes=False),
        "a label of infinity and no classes": content("text,label\na,-inf\n", "csv", "row 0", classes=False),
        "labels of several types": content("text,label\na,1\nb,fresh\nc,0.5\n", "csv", "row 0", "row 2"),
        "a list of labels": content('{"text": "a", "label": [1]}\n', "json", rows=1),
        "a list of labels that are lists": content('{"text": "a", "label": [[1]]}\n', "json", "row 0"),
        "a label that is an object": content('{"text": "a", "label": {"x": 1}}\n', "json", "row 0"),
        "a label of 1 MB": content(f"text,label\na,{'l' * 1_000_000}\n", "csv", "row 0", input_cols=["text"]),
        "texts that are numbers": content('{"text": 1, "label": 1}\n', "json", "row 0", input_cols=["text"]),
        "texts that are lists": content('{"text": ["a"], "label": 1}\n', "json", "row 0", input_cols=["text"]),
        "texts that are objects": content('{"text": {"a": "b"}, "label": 1}\n', "json", "row 0", input_cols=["text"]),
        "texts that are null": content('{"text": null, "label": 1}\n', "json", "row 0", input_cols=["text"]),
        "words that are numbers": content(
            '{"text": [1, 2], "label": 1}\n', "json", "row 0", input_cols=["text"], is_split_into_words=True
        ),
        # names
        "a name that is a pattern": _named("rows[1]*?.csv"),
        "a name with percent and braces": _named("rows%20{a}%s.csv"),
        "a name with a newline": _named("ro\nws.csv"),
        "a name like a chain of URLs": _named("zip:a.csv::b.csv"),
        "a name of 255 bytes": _named("x" * 251 + ".csv"),
        "a name with an escape": _named("ro\x1b[2Jws.csv"),
        "a name that begins with a dot": _named(".rows.csv"),
        "a name that is no UTF-8": Case(_folder(_foreign), "folder", rows=-1),
    }
    for name, (kind, data) in files.items():
        found[f"{name}, cut"] = _no_more(kind, name, data)
        found[f"{name}, whole"] = content(data, kind, file=name, rows=len(ROWS))
    return found


def _no_utf8(folder: Path) -> None:
    import pyarrow

    texts = pyarrow.array([b"\xff\xfe"]).view(pyarrow.string())
    _write(folder / "rows.parquet", parquet_of({"text": texts, "label": [1]}))


def _types(folder: Path) -> None:
    import pyarrow

    columns = {
        "text": ["good"],
        "label": [1],
        "time": pyarrow.array([1], pyarrow.time64("ns")),
        "map": pyarrow.array([[("a", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "decimal": pyarrow.array([1], pyarrow.decimal128(38)),
        "half": pyarrow.array([1.0], pyarrow.float16()),
    }
    _write(folder / "rows.parquet", parquet_of(columns))


def attempts(random_: random.Random) -> Iterator[Attempt]:
    """Those made by hand, then damage to good files, without end."""
    made = cases()
    _model()
    _whole_model()
    for name, case in made.items():
        yield Attempt(name, functools.partial(prepare, case))
    for name in WHOLE:
        yield Attempt(f"{name}, a whole run", functools.partial(run, made[name]))
    files = good()
    while True:
        name = random_.choice(sorted(files))
        kind, data = files[name]
        seed = random_.randrange(2**32)
        yield Attempt(f"{name}, damaged ({seed})", functools.partial(prepare, _damaged(name, kind, data, seed)))


def _damaged(name: str, kind: str, data: bytes, seed: int) -> Case:
    """A few bytes changed, left out, or there twice: it may still be data, of more or fewer rows."""
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        at, length = chance.randrange(len(changed)), chance.randrange(1, 24)
        how = chance.randrange(5)
        if how == 0:
            changed[at] = chance.randrange(256)
        elif how == 1:
            del changed[at : at + length]
        elif how == 2:
            changed[at:at] = changed[at : at + length]
        elif how == 3:
            changed[at : at + length] = chance.choice((b"\xff", b"\0", b'"', b"\n", b"\\u", b"9")) * length
        else:
            changed[-1 - at % 64 % len(changed)] = chance.randrange(256)
        changed = changed or bytearray(b"x")
    return content(bytes(changed), kind, file=name, rows=-1)


@functools.cache
def _model(classes: bool = True) -> Path:
    """A BERT's tokenizer and config."""
    from transformers import BertTokenizerFast

    folder = Path(tempfile.mkdtemp(prefix="attack-model-"))
    folder.chmod(0o755)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=8).save_pretrained(folder)
    named = {"label2id": {"rotten": 0, "fresh": 1}, "id2label": {"0": "rotten", "1": "fresh"}} if classes else {}
    sizes = {
        "vocab_size": 9,
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 4,
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **sizes, **named}))
    return folder


@functools.cache
def _server() -> subprocess.Popen[str]:
    """A process with the libraries imported, which forks one for every line that it reads."""
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, text=True)


def prepare(case: Case, folder: Path) -> str | None:
    """Prepare rows of hostile data in a process of its own."""
    place = folder / "data"
    for each in ("data", "out", "tmp", "home", "told"):
        (folder / each).mkdir()
    made = dict(case.make(place) or {})
    options = {**case.options, **made}
    model = _model(options.pop("classes", True))
    written = {**_written(case, options), "model_name": str(model)}
    before = {path.name for path in folder.iterdir()}
    asked = {"folder": str(folder), "written": written, "unprivileged": options.get("unprivileged", False)}
    with _LOCK:
        pipe = _server().stdin
        assert pipe is not None
        pipe.write(json.dumps(asked) + "\n")
        pipe.flush()
    outcome, said, mebibytes = _answer(folder / "told")
    return (
        _wrong(case, outcome, said)
        or (f"took {mebibytes:.0f} MiB" if mebibytes > MEBIBYTES else None)
        or _outside(folder, before)
    )


def _answer(told: Path) -> tuple[str, Any, float]:
    """What a forked process found, which is killed if it takes too long."""
    while not (told / "pid").exists():  # the server has yet to import, or is forking others
        time.sleep(0.02)
    began = time.monotonic()
    pid = int((told / "pid").read_text())
    while time.monotonic() - began < SECONDS:
        alive = Path(f"/proc/{pid}").exists()
        if (told / "answer").exists():
            outcome, said, mebibytes = json.loads((told / "answer").read_text())
            return outcome, said, mebibytes
        if not alive:
            return "traceback", "the process was killed", 0
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return "traceback", f"did not end within {SECONDS} s", 0


def _written(case: Case, options: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {"label_cols": ["label"], **{name: value for name, value in options.items() if name != "unprivileged"}}
    if case.kind == "folder":
        return {"data_name": "./set", **chosen}
    return {"data_name": case.kind, "data_files": case.file_name, **chosen}


def _wrong(case: Case, outcome: str, said: Any) -> str | None:
    if outcome == "traceback":
        return f"a traceback: {said[-600:]}"
    if outcome == "rows":
        if case.rows is None:
            return f"was taken, with {said} rows"
        return f"has {said} rows, not {case.rows}" if case.rows not in (-1, said) else None
    if len(said) > 3_000:
        return f"a message of {len(said)} characters: {said[:200]}"
    if case.says and not any(word in said for word in case.says):
        return f"says: {said}"
    if case.rows is not None and case.rows >= 0 and not case.says:
        return f"was refused: {said}"
    name = Path(case.file_name).name
    return None if name in said or (case.kind == "folder" and "set" in said) else f"does not name the file: {said}"


def _outside(folder: Path, before: set[str]) -> str | None:
    if list(folder.rglob(MARK)):
        return "code in the data was executed"
    written = {path.name for path in folder.iterdir()} - before - {"out.csv"}
    left = [
        *written,
        *(path.name for path in (folder / "tmp").iterdir()),
        *(path.name for path in (folder / "home").iterdir()),
    ]
    if (folder / "out.csv").exists() or (folder.parent / "out.csv").exists():
        return "an archive was unpacked outside"
    return f"wrote or left {', '.join(left)}" if left else None


def _serve() -> None:
    """Fork a process for every line, and let them be."""
    for name in PRELOADED:
        importlib.import_module(name)
    from transformers import AutoTokenizer, BertConfig, BertTokenizerFast  # noqa: F401 - for all that are forked

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        if os.fork() == 0:
            _child(Path(asked["folder"]), asked["written"], asked["unprivileged"])
            os._exit(0)


def _child(folder: Path, written: Mapping[str, Any], unprivileged: bool) -> None:
    """In a forked process: what the `data` step does, as the container's class does it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder / "data")
    os.environ.update(TMPDIR=str(folder / "tmp"), HOME=str(folder / "home"))
    tempfile.tempdir = str(folder / "tmp")
    if unprivileged and os.getuid() == 0:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(written["model_name"])  # imports what another user may not
        for path in (folder, *folder.iterdir()):
            path.chmod(0o777)
        os.setuid(65534)
    _tell(folder / "told" / "pid", str(os.getpid()))
    base = _resident()
    told: list[tuple[str, Any]] = []
    error = raised(lambda: told.append(_rows(folder, written)))
    outcome, said = told[0] if error is None else ("traceback", "".join(traceback.format_exception(error)))
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _tell(folder / "told" / "answer", json.dumps((outcome, said, largest - base)))


def _tell(file: Path, text: str) -> None:
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").rename(file)


def _resident() -> float:
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith("VmRSS")) / 1024


def _rows(folder: Path, written: Mapping[str, Any]) -> tuple[str, Any]:
    from hfopt import DataContext, HfoptError
    from hfopt.api.config import ConfigContext
    from hfopt.testing import validate
    from hfopt_hf_data.config import HuggingfaceContainerConfig
    from hfopt_hf_data.container import HuggingfaceContainer

    problems: list[Any] = []
    try:
        config = validate(HuggingfaceContainerConfig, dict(written), (), problems, ConfigContext(folder / "data"))
        if problems or not isinstance(config, HuggingfaceContainerConfig):
            return "refused", "; ".join(problem.message for problem in problems)
        HuggingfaceContainer(config).prepare(DataContext(folder / "out", lambda *_: None))
        data = HuggingfaceContainer(config).open(folder / "out")
        return "rows", sum(len(batch.rows) for batch in data.batches())
    except HfoptError as error:
        return "refused", str(error)


@functools.cache
def _whole_model() -> Path:
    """As `_model`, with weights."""
    import shutil

    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = Path(tempfile.mkdtemp(prefix="attack-model-")) / "model"
    shutil.copytree(_model(), folder)
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig.from_pretrained(folder)).eval().save_pretrained(folder)
    return folder


def run(case: Case, folder: Path) -> str | None:
    """The same, by a whole run."""
    options = {**case.options, **(case.make(folder) or {})}
    if options.pop("unprivileged", False):
        return None
    options.pop("classes", None)
    config = {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": str(_whole_model()), "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [{"name": "rows", "type": "HuggingfaceContainer", "params_config": _written(case, options)}],
        "evaluators": {"quality": {"metrics": [_ACCURACY]}},
        "passes": {"conversion": {"type": "OnnxConversion"}},
        "engine": {"evaluator": "quality", "cache_dir": "cache", "output_dir": "out"},
    }
    (folder / "run.json").write_text(json.dumps(config))
    ended = world.hfopt(folder, "run", "run.json", environment={"HOME": str(folder)}, seconds=120)
    wrong = world.broken(ended, codes=(0, 1, 2))
    if wrong is None and case.rows is None and ended.code == 0:
        return "was taken"
    if wrong is None and case.rows is None and case.file_name not in ended.stdout + ended.stderr:
        return f"does not name the file: {world.last_line(ended)}"
    return wrong


_ACCURACY = {
    "name": "accuracy",
    "type": "accuracy",
    "backend": "huggingface_metrics",
    "data_config": "rows",
    "sub_types": [{"name": "accuracy", "priority": 1}],
}

if __name__ == "__main__":
    _serve()
