"""Where `datasets` finds files: under names that mean nothing to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hfopt import PreconditionFailed
from hfopt_hf_data.files import readable
from hfopt_hf_data.limits import Limits
from hfopt_hf_data.messages import listed, shortened
from hfopt_hf_data.source import Source

_MEMORY = 64_000_000
"""Bytes of rows that are read at a time."""
_CSV_ROWS, _PARQUET_ROWS = 10_000, 100_000
"""Rows that `datasets` reads of a csv file at a time, and most that are read of a parquet file."""


class Place:
    """Where `datasets` finds files, by names that mean nothing to it: others may be patterns or URLs, or no text.

    :param names: a folder for links
    :param cache: a folder for what is written
    """

    def __init__(self, names: Path, cache: Path) -> None:
        self._names, self._plain = names, cache / "plain"
        self._plain.mkdir()
        self.cache = names / "cache"
        self.cache.symlink_to(cache.absolute())
        self._files: dict[str, str] = {}
        self._widest = 1

    def shown(self, files: Mapping[str, Sequence[str]], source: Source, limits: Limits) -> dict[str, list[str]]:
        """The files of each split, as `datasets` is shown them."""
        return {split: [self._link(Path(file), source, limits) for file in paths] for split, paths in files.items()}

    def _link(self, file: Path, source: Source, limits: Limits) -> str:
        found = readable(file, source.builder, source.options, limits, self._plain)
        self._widest = max(self._widest, found.widest)
        link = self._names / f"{len(self._files)}.{source.builder}"
        link.symlink_to(found.path.absolute())
        self._files[str(link)] = str(file)
        return str(link)

    def options(self, source: Source) -> Mapping[str, int]:
        """What keeps memory small where rows are long: how many of them are read at a time."""
        rows = max(1, _MEMORY // self._widest)
        if source.builder == "csv" and rows < _CSV_ROWS:
            return {"chunksize": rows}
        return {"batch_size": min(rows, _PARQUET_ROWS)} if source.builder == "parquet" else {}

    def failure(self, builder: str, error: Exception, told: Sequence[str]) -> PreconditionFailed:
        """What to say of an error of `datasets`."""
        cause = error.__cause__ or error
        reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
        links = [link for link in self._files if any(f"'{link}'" in line for line in (*told, str(error)))]
        for link, file in self._files.items():
            reason = reason.replace(link, file)
        return PreconditionFailed(f"can't read rows from {self.named(links)} as {builder}: {shortened(reason)}")

    def named(self, links: Sequence[str] = ()) -> str:
        """Files by their own names: all of them, if no links to them are given."""
        return listed([self._files[link] for link in links or self._files], 3)
