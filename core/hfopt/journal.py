"""What ran when: a SQLite database beside the artifacts, for `hfopt runs` and for choosing what to prune.

Artifacts are the truth; a lost journal costs history, never work. Host processes alone write it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hfopt.store import now

FILE = "journal.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, status TEXT NOT NULL,
    config TEXT, output_dir TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    run INTEGER NOT NULL REFERENCES runs (id), name TEXT NOT NULL, key TEXT NOT NULL, component TEXT NOT NULL,
    outcome TEXT NOT NULL, seconds REAL, at TEXT NOT NULL, PRIMARY KEY (run, name, key)
);
CREATE INDEX IF NOT EXISTS steps_by_key ON steps (key, at);
"""
_VERSION = 1
_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Run:
    """A run, as the journal has it.

    :param status: running, succeeded, failed or interrupted; a run that was killed stays running
    :param made: steps that it executed
    :param cached: steps that the cache answered
    """

    id: int
    started: str
    ended: str | None
    status: str
    config: str | None
    output_dir: str
    made: int
    cached: int
    failed: int


class SettledStep(NamedTuple):
    """A step that has a result or never will.

    :param outcome: made, cached or failed
    """

    name: str
    key: str
    component: str
    outcome: str
    seconds: float | None


class Journal:
    """The journal of one cache."""

    def __init__(self, cache_dir: Path) -> None:
        self.file = cache_dir / FILE

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection and one transaction. In WAL mode a reader never waits for a writer."""
        with closing(sqlite3.connect(self.file, timeout=_PATIENCE_SECONDS)) as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            with connection:
                yield connection

    def begin(self, config: Path | None, output_dir: Path) -> int:
        """Note that a run has started.

        :return: its number
        """
        with self._open() as connection:
            cursor = connection.execute(
                "INSERT INTO runs (started, status, config, output_dir) VALUES (?, 'running', ?, ?)",
                (now(), None if config is None else str(config.absolute()), str(output_dir)),
            )
            return int(cursor.lastrowid or 0)

    def note(self, run: int, steps: list[SettledStep]) -> None:
        """Note steps that are settled."""
        at = datetime.now(UTC).isoformat()
        with self._open() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO steps (run, name, key, component, outcome, seconds, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(run, *step, at) for step in steps],
            )

    def end(self, run: int, status: str) -> None:
        """Note how a run ended."""
        with self._open() as connection:
            connection.execute("UPDATE runs SET ended = ?, status = ? WHERE id = ?", (now(), status, run))

    def runs(self, limit: int | None = None) -> list[Run]:
        """Runs, the latest first."""
        if not self.file.exists():
            return []
        with self._open() as connection:
            rows = connection.execute(
                "SELECT id, started, ended, status, config, output_dir, coalesce(sum(outcome = 'made'), 0),"
                " coalesce(sum(outcome = 'cached'), 0), coalesce(sum(outcome = 'failed'), 0)"
                " FROM runs LEFT JOIN steps ON run = id GROUP BY id ORDER BY id DESC LIMIT ?",
                (-1 if limit is None else limit,),
            )
            return [Run(*row) for row in rows]

    def last_used(self) -> dict[str, str]:
        """When each artifact was last made or answered for, by key."""
        if not self.file.exists():
            return {}
        with self._open() as connection:
            return dict(connection.execute("SELECT key, max(at) FROM steps GROUP BY key"))
