"""Environments: streams, folders, limits, locales and variables as they come, each with each command.

A command that can't do its work says so in a sentence; one that can does it, and the model is the right one.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import random
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from conftest import Project, project_in
from world import Attempt, Ended, broken, hfopt

TITLE = "environments"
LEAST = 100
SHARE = 2

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
SLOPE = 0.75
Prepare = Callable[[], object]


@dataclass(frozen=True)
class World:
    """An environment.

    :param variables: beside this process's; an empty one is taken away by `env -u`
    :param before: what a shell does before the command
    :param after: redirections
    :param prepare: done in the child before it begins
    :param arrange: done to the project before
    :param finished: whether it is of a project with a cache and an output
    :param fails: whether every command that prints must fail
    :param works: whether what needs no cache, and a run, must do their work
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    after: str = ""
    prepare: Prepare | None = None
    arrange: Callable[[Project], None] = lambda project: None
    finished: bool = False
    fails: bool = False
    works: bool = False


def limited(kind: int, to: int) -> Prepare:
    return lambda: resource.setrlimit(kind, (to, to))


def bound_by_permissions() -> None:
    """Permission bits bind no root, unless these two capabilities are dropped."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def forbidden(*names: str, mode: int = 0o555) -> Callable[[Project], None]:
    """Folders that may not be written, or not read either, with all that is in them."""

    def arrange(project: Project) -> None:
        for name in names:
            place = project.folder / name
            for below in [place, *place.rglob("*")]:
                below.chmod(mode if below.is_dir() else mode & 0o444)

    return arrange


def in_place(name: str, make: Callable[[Path], None]) -> Callable[[Project], None]:
    return lambda project: make(project.folder / name)


def engine(**values: str) -> Callable[[Project], None]:
    return lambda project: project.config["engine"].update(values)


def loop(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.symlink_to(place.name)


def a_file(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.touch()


def named(name: str) -> Callable[[Project], None]:
    """Everything has that name: the model, the output, the cache."""

    def arrange(project: Project) -> None:
        (project.folder / "line.json").rename(project.folder / f"{name}.json")
        project.config["input_model"]["config"]["model_path"] = f"{name}.json"
        passes = project.config["passes"]
        project.config["passes"] = {name if each == "first" else each: passes[each] for each in passes}
        project.config["engine"] |= {"output_dir": f"out-{name}", "cache_dir": f"cache-{name}"}

    return arrange


def mounted(name: str, kibibytes: int) -> str:
    """A command that has a small file system in the place of a folder, where that is allowed; else it fails."""
    mount = f"mkdir -p {name}; mount -t tmpfs -o size={kibibytes}k none {name}"
    return f"unshare --map-root-user --mount sh -c '{mount} && exec \"$@\"' sh"


WORLDS: dict[str, World] = {
    "stdout closed": World(after=">&-", fails=True),
    "stdout full": World(after=">/dev/full", fails=True),
    "stdout a pipe that nobody reads": World(after="| true"),
    "stderr closed": World(after="2>&-"),
    "stderr full": World(after="2>/dev/full"),
    "both closed": World(after=">&- 2>&-"),
    "stdin closed": World(after="<&-", works=True),
    "stdin full": World(after="</dev/full", works=True),
    "all closed": World(after="<&- >&- 2>&-"),
    "no current folder": World(before='mkdir gone; cd gone; rmdir "$PWD";'),
    "no HOME": World({"HOME": ""}, works=True),
    "HOME is /": World({"HOME": "/"}, works=True),
    "HOME is a file": World({"HOME": "/dev/null"}, works=True),
    "HOME is missing": World({"HOME": "/nowhere/at/all"}, works=True),
    "TMPDIR missing": World({"TMPDIR": "/nowhere/at/all"}, works=True),
    "TMPDIR a file": World({"TMPDIR": "/dev/null"}, works=True),
    "TMPDIR full": World({"TMPDIR": "/dev/full"}, works=True),
    "no PATH": World({"PATH": ""}, works=True),
    "output_dir a file": World(arrange=in_place("hfopt-output", a_file)),
    "output_dir a loop": World(arrange=in_place("hfopt-output", loop)),
    "output_dir below a file": World(arrange=engine(output_dir="line.json/out")),
    "output_dir too long": World(arrange=engine(output_dir="x" * 300)),
    "output_dir far too long": World(arrange=engine(output_dir="x/" * 3_000)),
    "output_dir in /proc": World(arrange=engine(output_dir="/proc/hfopt")),
    "output_dir in /dev/full": World(arrange=engine(output_dir="/dev/full/out")),
    "cache_dir a file": World(arrange=in_place(".hfopt-cache", a_file)),
    "cache_dir a loop": World(arrange=in_place(".hfopt-cache", loop)),
    "cache_dir too long": World(arrange=engine(cache_dir="x" * 300)),
    "cache_dir in /proc": World(arrange=engine(cache_dir="/proc/hfopt")),
    "cache read only": World(prepare=bound_by_permissions, arrange=forbidden(".hfopt-cache"), finished=True),
    "cache closed": World(prepare=bound_by_permissions, arrange=forbidden(".hfopt-cache", mode=0), finished=True),
    "artifacts closed": World(
        prepare=bound_by_permissions, arrange=forbidden(".hfopt-cache/artifacts", mode=0), finished=True
    ),
    "artifacts read only": World(
        prepare=bound_by_permissions, arrange=forbidden(".hfopt-cache/artifacts"), finished=True
    ),
    "output read only": World(prepare=bound_by_permissions, arrange=forbidden("hfopt-output"), finished=True),
    "output closed": World(prepare=bound_by_permissions, arrange=forbidden("hfopt-output", mode=0), finished=True),
    "all read only": World(prepare=bound_by_permissions, arrange=forbidden("."), finished=True),
    **{
        f"{size} KiB left for {what}": World(before=mounted(what, size))
        for what, size in (("hfopt-output", 4), (".hfopt-cache", 4), (".hfopt-cache", 40), (".hfopt-cache", 100))
    },
    "no file may grow": World(prepare=limited(resource.RLIMIT_FSIZE, 0)),
    "files of 1 KiB": World(prepare=limited(resource.RLIMIT_FSIZE, 1024)),
    "files of 8 KiB": World(prepare=limited(resource.RLIMIT_FSIZE, 8 * 1024)),
    "files of 40 KiB": World(prepare=limited(resource.RLIMIT_FSIZE, 40 * 1024)),
    **{
        f"{count} open files": World(prepare=limited(resource.RLIMIT_NOFILE, count))
        for count in (8, 10, 12, 16, 20, 32)
    },
    "one process": World(prepare=limited(resource.RLIMIT_NPROC, 1), works=os.getuid() == 0),
    **{
        f"{mebibytes} MiB of addresses": World(prepare=limited(resource.RLIMIT_AS, mebibytes * 2**20))
        for mebibytes in (64, 80, 100, 130, 160, 200, 260, 330, 420, 600)
    },
    "small stack": World(prepare=limited(resource.RLIMIT_STACK, 256 * 1024)),
    "locale C": World({"LC_ALL": "C"}, arrange=named("schön-日本"), works=True),
    "locale POSIX without UTF-8": World(
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, arrange=named("schön-日本")
    ),
    "ascii output": World({"PYTHONIOENCODING": "ascii"}, arrange=named("schön-日本"), works=True),
    "ascii output, strictly": World({"PYTHONIOENCODING": "ascii:strict"}, arrange=named("schön-日本"), works=True),
    "latin-1 output": World({"PYTHONIOENCODING": "latin-1"}, arrange=named("schön-日本"), works=True),
    "utf-16 output": World({"PYTHONIOENCODING": "utf-16"}, works=True),
    "a language": World({"LANG": "tr_TR.UTF-8", "LANGUAGE": "tr"}, works=True),
    "PYTHONHASHSEED": World({"PYTHONHASHSEED": "1"}, works=True),
    "PYTHONOPTIMIZE": World({"PYTHONOPTIMIZE": "2"}, works=True),
    "PYTHONWARNINGS": World({"PYTHONWARNINGS": "error"}, works=True),
    "PYTHONDONTWRITEBYTECODE": World({"PYTHONDONTWRITEBYTECODE": "1"}, works=True),
    "PYTHONUNBUFFERED": World({"PYTHONUNBUFFERED": "1"}, works=True),
    "PYTHONDEVMODE": World({"PYTHONDEVMODE": "1"}, works=True),
    "PYTHONSAFEPATH": World({"PYTHONSAFEPATH": "1"}, works=True),
    "PYTHONINTMAXSTRDIGITS": World({"PYTHONINTMAXSTRDIGITS": "640"}, works=True),
    "TERM": World({"TERM": "no-such-terminal"}, works=True),
    "no TERM": World({"TERM": ""}, works=True),
    "NO_COLOR": World({"NO_COLOR": "1"}, works=True),
    **{f"COLUMNS={columns}": World({"COLUMNS": columns}, works=True) for columns in ("0", "1", "-5", "x", "100000")},
    "TZ": World({"TZ": "Nowhere/At_All"}, works=True),
    "TZ a folder": World({"TZ": ":/"}, works=True),
    "umask 777": World(prepare=lambda: (bound_by_permissions(), os.umask(0o777))),
    "umask 0": World(prepare=lambda: os.umask(0), works=True),
    "HFOPT_LOCKS a file": World({"HFOPT_LOCKS": "/dev/null"}),
    "HFOPT_LOCKS missing": World({"HFOPT_LOCKS": "/proc/nowhere"}),
    "HF_HUB_OFFLINE odd": World({"HF_HUB_OFFLINE": "perhaps"}, works=True),
    "lowest priority": World(prepare=lambda: os.nice(5), works=True),
}

COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "config.json", "-p", "toy.py"),
    "run in process": ("run", "config.json", "-p", "toy.py", "--in-process"),
    "run --json": ("run", "config.json", "-p", "toy.py", "--json"),
    "validate": ("validate", "config.json", "-p", "toy.py"),
    "--help": ("--help",),
    "run --help": ("run", "--help"),
    "plugins": ("plugins", "-p", "toy.py"),
    "runs": ("runs", "config.json"),
    "cache ls": ("cache", "ls", "config.json"),
    "cache verify": ("cache", "verify", "config.json"),
    "cache prune": ("cache", "prune", "config.json", "--max-size", "0"),
    "cache rm": ("cache", "rm", "first", "config.json"),
    "cache export": ("cache", "export", "first", "--config", "config.json", "--to", "exported"),
    "init": ("init", "line.json", "-o", "made.json"),
    "a mistake": ("run", "nowhere.json"),
    "no such command": ("rnu",),
}
RUNS = ("run", "run in process", "run --json")
LOOKS = ("--help", "run --help", "plugins", "validate")
"""What needs no cache, and works wherever a run does."""


def attempts(chance: random.Random) -> Iterator[Attempt]:
    """Each environment once, every third time with a run; then with every other command; then two at once."""
    pairs = [(world, command) for world in WORLDS for command in COMMANDS]
    first = [(world, "run" if chance.random() < 1 / 3 else chance.choice([*COMMANDS])) for world in WORLDS]
    chance.shuffle(pairs)
    for world, command in dict.fromkeys([*first, *pairs]):
        yield Attempt(f"{world}: {command}", partial(endure, (world,), command))
    while True:
        worlds, command = tuple(chance.sample([*WORLDS], 2)), chance.choice([*COMMANDS])
        yield Attempt(f"{' and '.join(worlds)}: {command}", partial(endure, worlds, command))


def endure(names: tuple[str, ...], command: str, folder: Path) -> str | None:
    """Run a command in an environment, and look at how it ended and what it left."""
    worlds = [WORLDS[name] for name in names]
    project = project_in(folder)
    if command.startswith("cache") or command == "runs" or any(world.finished for world in worlds):
        shutil.copytree(finished_run(), folder, dirs_exist_ok=True)
    project.write()
    (folder / "toy.py").write_bytes(project.plugin.read_bytes())
    for world in worlds:
        world.arrange(project)
    if os.access(folder / "config.json", os.W_OK):
        project.write()
    ended = run_in(worlds, project, COMMANDS[command])
    return wrong_with(ended, worlds, command, project)


@cache
def finished_run() -> Path:
    """A folder whose run has ended well."""
    project = project_in(Path(mkdtemp(prefix="attack-finished-")))
    atexit.register(shutil.rmtree, project.folder, ignore_errors=True)
    project.run("--in-process")
    return project.folder


def run_in(worlds: list[World], project: Project, arguments: tuple[str, ...]) -> Ended:
    variables = {name: value for world in worlds for name, value in world.variables.items()}
    dropped = [f"-u{name}" for name, value in variables.items() if not value]
    shell = " ".join(world.before for world in worlds) + ' "$@" ' + " ".join(world.after for world in worlds[:1])

    def prepare() -> None:
        for world in worlds:
            if world.prepare is not None:
                world.prepare()

    below = ["/bin/bash", "-o", "pipefail", "-c", shell, "sh", "/usr/bin/env", *dropped]
    kept = {name: value for name, value in variables.items() if value}
    return hfopt(project.folder, *arguments, environment=kept, prepare=prepare, below=below)


def wrong_with(ended: Ended, worlds: list[World], command: str, project: Project) -> str | None:
    silent = any(">" in each.after or "|" in each.after for each in worlds)
    said = ended if not silent else Ended(ended.code, ended.stdout or ".", ended.stderr, ended.seconds, ended.mebibytes)
    if (wrong := broken(said)) is not None:
        return wrong
    told = ended.stdout + ended.stderr
    for bad in ("Exception ignored", "Fatal Python error", "AttributeError", "NoneType", "is not installed", "Error: "):
        if bad in told:
            return f"says {bad!r}: {told[-300:]}"
    if ended.code == 0 and any(world.fails for world in worlds):
        return "its output is lost, and it ended with 0"
    if (
        len(worlds) == 1
        and worlds[0].works
        and ended.code != 0
        and ((command.startswith("run") and command != "runs") or command in LOOKS)
    ):
        return f"ended with {ended.code}: {told[-400:]}"
    if ended.code == 0 and command in RUNS:
        return wrong_result(project)
    return None


def wrong_result(project: Project) -> str | None:
    output = project.folder / project.config["engine"].get("output_dir", "hfopt-output")
    record = json.loads((output / "run.json").read_bytes())
    if record["status"] != "succeeded":
        return f"ended with 0, and run.json says {record['status']}"
    files = [each for each in (output / "best").glob("*.json") if each.name != "model.json"]
    found = [json.loads(each.read_bytes()) for each in files]
    return None if found == [{"slope": SLOPE}] else f"best/ holds {found}"
