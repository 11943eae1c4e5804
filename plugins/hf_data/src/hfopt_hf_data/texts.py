"""Files of text: csv, JSON and plain lines, read to their end before `datasets` reads them."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, TextIO

from hfopt import PreconditionFailed
from hfopt_hf_data.limits import Limits, Readable, too_long

_CHUNK = 1 << 20
_UTF8 = ("utf-8", "utf8", "utf-8-sig")
_SAVE = "save it as text in UTF-8"
_DIALECT = {"sep": "delimiter", "delimiter": "delimiter", "quotechar": "quotechar", "escapechar": "escapechar"}
"""Options of `datasets` for csv files, as the module csv calls them."""


class Text:
    """A file of text.

    :param file: as the user knows it
    :param plain: decompressed
    """

    def __init__(self, file: Path, plain: Path, options: Mapping[str, Any], limits: Limits) -> None:
        self._file, self._plain, self._options, self._limit = file, plain, options, limits.field
        self._encoding = str(options.get("encoding") or "utf-8").lower().replace("_", "-")
        self._widest = 1

    def look(self, kind: str, folder: Path) -> Readable:
        """Read it to its end, as the kind wants it."""
        path = self._plain
        if kind == "json":
            path = self._json(folder)
        elif kind == "csv":
            self._csv()
        else:
            self._drain()
        return Readable(path, self._widest)

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        """The file; bytes that are no UTF-8 are lone surrogates, which `_check` finds."""
        utf8 = self._encoding in _UTF8
        errors = self._options.get("encoding_errors") or ("surrogateescape" if utf8 else "strict")
        try:
            with open(self._plain, encoding=_UTF8[-1] if utf8 else self._encoding, errors=errors, newline="") as text:
                yield text
        except (LookupError, UnicodeError) as error:
            raise PreconditionFailed(f"{self._file} is not text in {self._encoding}: {error}", hint=_SAVE) from error

    def _check(self, text: str, place: str) -> None:
        if not text.isascii() and not self._options.get("encoding_errors"):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                byte = ord(text[error.start]) & 0xFF
                raise PreconditionFailed(
                    f"{place}, character {error.start + 1} is not text in UTF-8 (byte 0x{byte:02x})", hint=_SAVE
                ) from error
        if "\0" in text:
            raise PreconditionFailed(f"{place} holds a NUL character", hint=_SAVE)

    def _lines(self) -> Iterator[str]:
        """Line by line, each with its end."""
        limit, widest = self._limit, 1
        with self._opened() as text:
            for number in count(1):
                line = text.readline(limit + 1)
                if not line:
                    break
                if len(line) > widest:
                    widest = self._widest = len(line)
                if widest > limit:
                    too_long(f"{self._file}, line {number}", limit)
                if "\0" in line or not line.isascii():
                    self._check(line, f"{self._file}, line {number}")
                yield line

    def _drain(self) -> None:
        for _ in self._lines():
            pass

    def _csv(self) -> None:
        dialect = {_DIALECT[name]: value for name, value in self._options.items() if name in _DIALECT and value}
        if any(len(str(value)) != 1 for value in dialect.values()) or self._options.get("quoting"):
            return self._drain()
        before = csv.field_size_limit(self._limit)
        reader = csv.reader(self._lines(), **dialect)
        try:
            self._rows(reader, named=not self._options.keys() - {*_DIALECT, "encoding", "encoding_errors"})
        except csv.Error as error:
            place = f"{self._file}, line {reader.line_num}"
            if "field larger" in str(error):
                too_long(f"{place}: a field, perhaps one whose quotes never end,", self._limit)
            raise PreconditionFailed(f"{place}: {error}") from error
        finally:
            csv.field_size_limit(before)

    def _rows(self, reader: Any, *, named: bool) -> None:
        """See that no row has more fields than the first line names: pandas would take the first for an index."""
        begun, header, rows = 0, None, 0
        for row in reader:
            rows += bool(row)
            if header is None and row:
                header = len(row)
            if named and header is not None and len(row) > header:
                raise PreconditionFailed(
                    f"{self._file}, line {reader.line_num} has {len(row)} fields, and the first line names {header}",
                    hint="put texts that hold commas or quotes into quotes",
                )
            if reader.line_num > begun + 1:
                self._widest = max(self._widest, sum(map(len, row)))
            begun = reader.line_num
        if named and rows < 2:
            raise PreconditionFailed(f"{self._file} has no rows but the one that names the columns")

    def _json(self, folder: Path) -> Path:
        """Objects line by line are left as they are; those of an array are written line by line."""
        if self._options.get("field"):
            return self._one_value()
        with self._opened() as text:
            if text.read(_CHUNK).lstrip().startswith("["):
                return self._array(folder)
        rows = 0
        for number, line in enumerate(self._lines(), 1):
            if line.isspace():
                continue
            place = f"{self._file}, line {number}"
            try:
                value = _all_parsed(line, place)
            except json.JSONDecodeError as error:
                if not rows:
                    return self._one_value()
                raise PreconditionFailed(f"{place} is not JSON: {error}") from error
            _check_row(value, place)
            rows += 1
        if not rows:
            raise PreconditionFailed(f"{self._file} has no rows")
        return self._plain

    def _one_value(self) -> Path:
        """A file that is one value: it is read whole."""
        length = self._plain.stat().st_size
        if length > self._limit:
            too_long(f"{self._file}: what it holds as one JSON value", self._limit)
        try:
            _all_parsed("".join(self._lines()), str(self._file))
        except json.JSONDecodeError as error:
            raise PreconditionFailed(f"{self._file} is not JSON: {error}") from error
        return self._plain

    def _array(self, folder: Path) -> Path:
        target, row = folder / f"{len(os.listdir(folder))}.plain", -1
        with target.open("x", encoding="utf-8") as lines:
            for row, value in enumerate(self._elements()):
                if not isinstance(value, str):
                    _check_row(value, f"{self._file}, row {row}")
                lines.write(json.dumps({"text": value} if isinstance(value, str) else value, ensure_ascii=False))
                lines.write("\n")
        if row < 0:
            raise PreconditionFailed(f"{self._file} has no rows")
        return target

    def _elements(self) -> Iterator[Any]:
        """The values of an array, each parsed as soon as it is there: memory holds little more than one."""
        with self._opened() as text:
            held, row, more = text.read(_CHUNK).lstrip(), 0, True
            at, between = 1, _FIRST
            while True:
                place = f"{self._file}, row {row}"
                try:
                    mark = between.match(held, at)
                    if mark is None:
                        raise json.JSONDecodeError("Expecting ',' or ']'", held, at)
                    if mark[1] == "]":
                        return
                    value, end = _parsed(held, place, mark.end())
                except json.JSONDecodeError as error:
                    near_end = error.pos > len(held) - 8 or error.msg.startswith("Unterminated")
                    if not more or not near_end:
                        raise PreconditionFailed(f"{place} is not JSON: {error.msg}") from error
                    if len(held) - at > self._limit:
                        too_long(place, self._limit)
                    added = text.read(max(_CHUNK, len(held) - at))
                    self._check(added, place)
                    held, at, more = held[at:] + added, 0, bool(added)
                    continue
                yield value
                self._widest = max(self._widest, end - at)
                at, row, between = end, row + 1, _NEXT


_FIRST, _NEXT = re.compile(r"\s*(\])?\s*"), re.compile(r"\s*([,\]])\s*")
"""What stands before an array's first value, and before others."""


def _no_number(name: str) -> NoReturn:
    raise _NoNumber(name)


class _NoNumber(Exception):
    """NaN or an infinity."""


_JSON = json.JSONDecoder(parse_constant=_no_number)


def _parsed(text: str, place: str, at: int = 0) -> tuple[Any, int]:
    """A JSON value, and where it ends.

    :param at: where it begins
    :raises PreconditionFailed: JSON that no table can hold
    :raises json.JSONDecodeError: no JSON
    """
    try:
        value, end = _JSON.raw_decode(text, at)
        if text.find("\\u", at, end) >= 0:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except _NoNumber as error:
        raise PreconditionFailed(f"{place} holds {error}, which is no number in JSON", hint="write null") from error
    except RecursionError as error:
        raise PreconditionFailed(f"{place} is nested too deeply") from error
    except UnicodeError as error:
        raise PreconditionFailed(f"{place} holds one half of a character (a surrogate, \\ud...)") from error
    except ValueError as error:
        raise PreconditionFailed(f"{place} holds an integer of too many digits") from error
    return value, end


def _all_parsed(text: str, place: str) -> Any:
    text = text.strip()
    value, end = _parsed(text, place)
    if end < len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _check_row(value: Any, place: str) -> None:
    if not isinstance(value, dict):
        raise PreconditionFailed(f"{place} is not an object, which is what a row is")
