"""What ran when: a SQLite database, for `hfopt runs`, for saying why a step ran again, and for choosing what to prune.

The artifacts and the run.json files are the truth. A lost or damaged journal is rebuilt from them as far as possible,
and no problem with it ever fails a run. Only host processes write it.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hfopt.base.errors import HfoptError
from hfopt.base.files import RECORD, read_own, write_atomically
from hfopt.base.text import now
from hfopt.cache.filesystems import on_network
from hfopt.cache.locks import exclusive

FILE = "journal.sqlite"
_SCHEMA = """
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS steps;
DROP TABLE IF EXISTS runs;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, status TEXT NOT NULL,
    config TEXT, output_dir TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT
);
CREATE TABLE steps (
    run INTEGER NOT NULL REFERENCES runs (id), name TEXT NOT NULL, key TEXT NOT NULL, component TEXT NOT NULL,
    outcome TEXT NOT NULL, seconds REAL, at TEXT NOT NULL, PRIMARY KEY (run, name, key)
);
CREATE INDEX steps_by_key ON steps (key, at);
"""
_VERSION = 2
_PATIENCE_SECONDS = 5
_OUTCOME = {True: "cached", False: "made"}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

T = TypeVar("T")


class Run(NamedTuple):
    """A run in the journal.

    :param status: running, killed (its process is gone), or as in run.json
    :param made: how many steps it executed
    :param cached: how many results came from the cache
    :param failed: how many steps failed
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
    """A step that has a result, or failed.

    :param outcome: made, cached or failed
    """

    name: str
    key: str
    component: str
    outcome: str
    seconds: float | None


class Use(NamedTuple):
    """When an artifact was last made or found in the cache, by which run, and as which step.

    :param run: None if the journal does not know
    """

    at: str
    run: int | None
    step: str


class Journal:
    """The journal of one cache.

    :param warn: called once if the journal can't be used
    """

    def __init__(self, cache_dir: Path, warn: Callable[[str], None] = lambda _: None) -> None:
        self.cache = cache_dir.absolute()
        self.shared = on_network(self.cache)
        self.file = (_local_folder(self.cache) if self.shared else self.cache) / FILE
        self.warn = warn
        self.usable = True
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def run(self, config: Path | None, output_dir: Path) -> Iterator[RunLog]:
        """Record that a run has started, and how it ended unless the caller does."""
        log = self.begin(config, output_dir)
        try:
            yield log
        except BaseException as error:
            log.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        finally:
            self._close()

    def begin(self, config: Path | None, output_dir: Path) -> RunLog:
        """Record that a run has started.

        Where its run.json will be is noted in the cache as well: a lost journal is rebuilt from these notes.
        """
        place = None if config is None else str(config.absolute())
        note = self.cache / "outputs" / f"{sha256(os.fsencode(output_dir)).hexdigest()[:16]}.json"
        with suppress(OSError):
            note.parent.mkdir(exist_ok=True)
            write_atomically(note, json.dumps({"config": place, "output_dir": str(output_dir)}))
        values = (now(), None, "running", place, str(output_dir), platform.node(), os.getpid(), _born(os.getpid()))
        return RunLog(self, self.do(lambda connection: _insert_run(connection, values), None))

    def runs(self, limit: int = -1) -> list[Run]:
        """Runs, the latest first.

        :param limit: how many at most; negative: all
        """
        found = self._select(
            "SELECT host, pid, born, id, started, ended, status, config, output_dir,"
            " sum(outcome IS 'made'), sum(outcome IS 'cached'), sum(outcome IS 'failed')"
            " FROM runs LEFT JOIN steps ON run = id GROUP BY id ORDER BY id DESC LIMIT ?",
            limit,
        )
        return [_judged(Run(*rest), host, pid, born) for host, pid, born, *rest in found]

    def last_uses(self) -> dict[str, Use]:
        """The last use of each artifact, by key."""
        # SQLite takes the bare columns from the row that has the maximum.
        found = self._select("SELECT key, max(at), run, name FROM steps WHERE outcome != 'failed' GROUP BY key")
        return {key: Use(*use) for key, *use in found}

    def predecessor(self, key: str) -> tuple[int, str] | None:
        """What the previous run of the same config had for the step that made this artifact.

        :return: that run, and its artifact's key; None if no earlier run had the step
        """
        found = self._select(
            "SELECT other.run, other.key FROM steps AS own JOIN runs AS run ON run.id = own.run"
            " JOIN steps AS other ON other.name = own.name AND other.run < own.run AND other.key != own.key"
            " JOIN runs AS earlier ON earlier.id = other.run"
            "  AND (earlier.config = run.config OR earlier.output_dir = run.output_dir)"
            " WHERE own.key = ? AND other.outcome != 'failed' ORDER BY own.run, other.run DESC LIMIT 1",
            key,
        )
        return found[0] if found else None

    def _select(self, query: str, *values: object) -> list[Any]:
        try:
            return self.do(lambda connection: connection.execute(query, values).fetchall(), [])
        finally:
            self._close()

    def do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Work in a transaction.

        :return: what the work returns, or `otherwise` if the database can't be used
        """
        if not self.usable:
            return otherwise
        try:
            try:
                return self._transact(work)
            except sqlite3.DatabaseError as error:
                damaged = isinstance(error, _Damaged) or getattr(error, "sqlite_errorcode", None) in _DAMAGED
                if not damaged and (self.file.is_file() or not os.path.lexists(self.file)):
                    raise
                self._close()
                self._set_aside(str(error))
                return self._transact(work)
        except (sqlite3.Error, OSError, HfoptError) as error:
            self.usable = False
            self.warn(f"{self.file} can't be used: {error}")
            return otherwise

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._connect()
            if _version_of(self._connection) != _VERSION:
                with exclusive(self.cache / "locks" / "journal"):
                    self._create(self._connection)
            if _tables_of(self._connection) != _tables():
                raise _Damaged("its tables are not what they were")
            self._connection.execute("PRAGMA synchronous = NORMAL")
        with self._connection:
            return work(self._connection)

    def _connect(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # Read as immutable, a database needs none of the files that WAL mode keeps beside it.
        source = self.file.as_uri() + ("" if os.access(self.file.parent, os.W_OK) else "?immutable=1")
        return sqlite3.connect(source, timeout=_PATIENCE_SECONDS, uri=True)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _create(self, connection: sqlite3.Connection) -> None:
        """Start over, from the run.json files that this cache's runs have left.

        In WAL mode a reader never waits for a writer, but it needs memory that a network does not share.
        """
        if (version := _version_of(connection)) > _VERSION:
            raise sqlite3.NotSupportedError("a later version of hfopt made it")
        if version == _VERSION:
            return
        connection.execute(f"PRAGMA journal_mode = {'DELETE' if self.shared else 'WAL'}")
        with connection:
            connection.executescript(_SCHEMA)
            for values, steps in sorted(self._records()):
                _insert_steps(connection, _insert_run(connection, values), steps, values[1])
            connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _records(self) -> Iterator[tuple[tuple[str, str, str, str | None, str, str, int, None], list[SettledStep]]]:
        """What run.json files say of their runs; a damaged one says nothing."""
        for note in self.cache.glob("outputs/*.json"):
            with suppress(ValueError, LookupError, TypeError, AttributeError, OverflowError):
                place = read_own(note)
                record = read_own(Path(place["output_dir"], RECORD))
                started, ended = (_utc(record[each]) for each in ("started", "ended"))
                config = place["config"] and str(place["config"])
                values = (started, ended, str(record["status"]), config, str(place["output_dir"]), "", 0, None)
                steps = _steps_of(record)
                if record["schema"] == 1 and all(isinstance(each, str) for step in steps for each in step[:4]):
                    yield values, steps

    def _set_aside(self, why: str) -> None:
        damaged = self.file.with_stem(f"{self.file.stem}-damaged")
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.replace(f"{self.file}{ending}", f"{damaged}{ending}")
        self.warn(f"{self.file} was damaged ({why}): it is rebuilt, and the damaged file kept as {damaged.name}")


class RunLog(NamedTuple):
    """What one run records in the journal.

    :param number: the run's id; None in a journal that can't be used
    """

    journal: Journal
    number: int | None

    def note(self, steps: list[SettledStep]) -> None:
        """Record steps as they finish, so that they survive a kill."""
        if steps:
            at = datetime.now(UTC).isoformat()
            self.journal.do(lambda connection: _insert_steps(connection, self.number, steps, at), None)

    def end(self, status: str) -> None:
        """Record how the run ended, if that is not yet recorded."""
        update = "UPDATE runs SET ended = ?, status = ? WHERE id = ? AND ended IS NULL"
        self.journal.do(lambda connection: connection.execute(update, (now(), status, self.number)), None)


class _Damaged(sqlite3.DatabaseError):
    """It is a database, but not this one."""


def _tables_of(connection: sqlite3.Connection) -> list[tuple[str]]:
    return connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY sql").fetchall()


def _tables() -> list[tuple[str]]:
    """How a journal's tables are written."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"{_SCHEMA} COMMIT;")
        return _tables_of(connection)


def _utc(text: str) -> str:
    """A time as records have it.

    :raises ValueError: it is none
    """
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="seconds")


def _version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _insert_run(connection: sqlite3.Connection, values: tuple[object, ...]) -> int | None:
    return connection.execute("INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid


def _insert_steps(connection: sqlite3.Connection, run: int | None, steps: list[SettledStep], at: str) -> None:
    rows = [(run, *step, at) for step in steps]
    connection.executemany("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _steps_of(record: dict[str, Any]) -> list[SettledStep]:
    """The steps of a run.json. Steps without seconds failed or never ran."""
    return [
        SettledStep(step["name"], step["key"], step["type"], _OUTCOME[step["cached"]], float(seconds))
        for result in record["results"]
        for candidate in result["candidates"]
        for step in candidate["steps"]
        if (seconds := step["seconds"]) is not None
    ]


def _local_folder(cache_dir: Path) -> Path:
    """Where the journal of a cache on a network file system is: each machine has its own."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = base if base.is_absolute() else Path.home() / ".local" / "state"
    return state / "hfopt" / sha256(os.fsencode(os.path.realpath(cache_dir))).hexdigest()[:16]


def _judged(run: Run, host: str, pid: int, born: str | None) -> Run:
    """A run that is recorded as running was killed if its process is gone. Nobody can tell for another machine's."""
    if run.status == "running" and host == platform.node() and (born is None or born != _born(pid)):
        return run._replace(status="killed")
    return run


def _born(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it is gone. A later process may have the same pid.

    Time since the epoch would not do: it changes when the machine's clock is set.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        since_boot = process.create_time() - psutil.boot_time()
        return None if process.status() == psutil.STATUS_ZOMBIE else str(round(since_boot * os.sysconf("SC_CLK_TCK")))
    except psutil.Error:
        return None
