"""A finished run's cache and results are changed: nothing wrong comes out, and nothing outside is touched."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from world import Attempt, broken, hfopt

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
from conftest import TOY, project_in

TITLE = "tampering with caches and results"
LEAST = 45
SHARE = 3

KINDS = ("fetch", "data", "pass", "predict")
"""Of artifacts that have files."""
OUTSIDE = "outside"
"""A folder beside the project's, which nothing may change."""
SECRET = "what lies outside"


def attempts(chance: random.Random) -> Iterator[Attempt]:
    """Every kind of change to every kind of artifact; links in every place, before every command that deletes."""
    every = list(_every(chance))
    chance.shuffle(every)
    return iter(every)


def _every(chance: random.Random) -> Iterator[Attempt]:
    for kind in KINDS:
        for name, change in FILES.items():
            yield Attempt(f"{name}, {kind}", partial(_changed, partial(_of_kind, kind, change, chance.random())))
    for name, change in MANIFESTS.items():
        kind = "score" if name == "a metric edited" else chance.choice(KINDS)
        yield Attempt(f"manifest of {kind}: {name}", partial(_changed, partial(_in_manifest, kind, change)))
    for name, change in RESULTS.items():
        yield Attempt(f"results: {name}", partial(_changed, change, notice=""))
    for name in ("two passes swapped", "a pass and a score swapped"):
        yield Attempt(name, partial(_changed, partial(_swap, name.startswith("two"))))
    for place in ("artifacts", "making", "locks", "artifacts/ab", "artifacts/ab/" + "a" * 64, "making/x", "format"):
        for command in COMMANDS:
            yield Attempt(f"{place} is a link, then {command}", partial(_linked, place, command))
    for name, place in NAMED.items():
        yield Attempt(f"model.json names {name}", partial(_named, place))
    for name, change in PARCELS.items():
        yield Attempt(f"an adopted parcel: {name}", partial(_parcel, change))


# -- what is done to a file --------------------------------------------------------------------------------------------


def _flip(file: Path, at: float) -> None:
    """Change a byte. Size and time of change stay, as after a fault of the disk."""
    state = file.stat()
    content = bytearray(file.read_bytes())
    content[int(at * len(content))] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def _rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path, float], None]:
    def rewrite(file: Path, _: float) -> None:
        file.chmod(0o644)
        file.write_bytes(change(file.read_bytes()))

    return rewrite


def _link(file: Path, _: float) -> None:
    kept = file.parents[5] / OUTSIDE / file.name
    shutil.copy(file, kept)
    file.unlink()
    file.symlink_to(kept)


def _folder(file: Path, _: float) -> None:
    file.unlink()
    file.mkdir()


def _pipe(file: Path, _: float) -> None:
    file.unlink()
    os.mkfifo(file)


FILES: dict[str, Callable[[Path, float], None]] = {
    "a byte flipped": _flip,
    "truncated": _rewrite(lambda content: content[:-1]),
    "lengthened": _rewrite(lambda content: content + b" "),
    "emptied": _rewrite(lambda content: b""),
    "removed": lambda file, _: file.unlink(),
    "a link in its place": _link,
    "a folder in its place": _folder,
    "a pipe in its place": _pipe,
    "another file beside it": lambda file, _: file.with_name("config.json.more").write_text("{}"),
}


def _of_kind(kind: str, change: Callable[[Path, float], None], at: float, folder: Path) -> None:
    found = [each for each in _artifacts(folder) if _manifest(each)["kind"] == kind]
    artifact = found[int(at * len(found))]
    files = sorted(file for file in artifact.rglob("*") if file.is_file() and file.name != "manifest.json")
    change(files[int(at * 7919) % len(files)], at)


# -- manifests, results ------------------------------------------------------------------------------------------------


def _edit(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest.update(fields)


def _better(manifest: dict[str, Any]) -> None:
    for metric in manifest["metrics"].values():
        metric["value"] = 0.999


def _refer_to_itself(manifest: dict[str, Any]) -> None:
    manifest["uses"]["artifacts"] = [manifest["key"]]


def _forget_a_file(manifest: dict[str, Any]) -> None:
    manifest["files"] = manifest["files"][1:]


def _other_bytes(manifest: dict[str, Any]) -> None:
    for file in manifest["files"]:
        file["sha256"] = "0" * 64


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a metric edited": _better,
    "another key": _edit(key="f" * 64),
    "another schema": _edit(schema_version=99),
    "refers to itself": _refer_to_itself,
    "a file forgotten": _forget_a_file,
    "other digests": _other_bytes,
    "null for files": _edit(files=None),
    "a path out of it": lambda manifest: manifest["files"][0].update(path="../../../../../config.json"),
    "an absolute path": lambda manifest: manifest["files"][0].update(path="/etc/passwd"),
    "negative sizes": lambda manifest: manifest["files"][0].update(size=-1),
    "another recipe": _edit(recipe={}),
    "nothing": lambda manifest: manifest.clear(),
}


def _in_manifest(kind: str, change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    artifact = next(each for each in _artifacts(folder) if _manifest(each)["kind"] == kind)
    manifest = _manifest(artifact)
    change(manifest)
    _write(artifact / "manifest.json", json.dumps(manifest))


RESULTS: dict[str, Callable[[Path], object]] = {
    "a byte flipped": lambda folder: _flip(folder / "hfopt-output" / "best" / "line.json", 0.5),
    "a file removed": lambda folder: (folder / "hfopt-output" / "best" / "line.json").unlink(),
    "model.json is null": lambda folder: (folder / "hfopt-output" / "best" / "model.json").write_text("null"),
    "model.json has no files": lambda folder: (folder / "hfopt-output" / "best" / "model.json").write_text("{}"),
    "run.json is null": lambda folder: (folder / "hfopt-output" / "run.json").write_text("null"),
}


def _swap(passes: bool, folder: Path) -> None:
    kinds: dict[str, list[Path]] = {}
    for each in _artifacts(folder):
        kinds.setdefault(_manifest(each)["kind"], []).append(each)
    one, other = kinds["pass"][:2] if passes else (kinds["pass"][0], kinds["score"][0])
    aside = folder / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _changed(change: Callable[[Path], object], outer: Path, *, notice: str = "is done again: its result") -> str | None:
    """Run, change something, run again: as if nothing had been changed, or a failure that says so."""
    folder = _finished(outer)
    before = _outcome(folder)
    change(folder)
    again = hfopt(folder, "run", "config.json", "-p", TOY)
    if (wrong := broken(again, codes=(0,)) or _outside_changed(outer)) is not None:
        return wrong
    if notice not in again.stdout + again.stderr:
        return "no notice"
    if _outcome(folder) != before:
        return "another outcome, and exit code 0"
    checked = hfopt(folder, "cache", "verify")
    return broken(checked, codes=(0,))


# -- links -------------------------------------------------------------------------------------------------------------

COMMANDS = ("run config.json", "cache prune --max-size 0", "cache verify --remove", "cache rm first", "cache ls")


def _linked(place: str, command: str, outer: Path) -> str | None:
    """A link in the cache to a folder outside: whatever deletes leaves that folder as it is."""
    folder = _finished(outer)
    path = folder / ".hfopt-cache" / place
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outer / OUTSIDE, target_is_directory=True)
    more = ["-p", TOY] if command.startswith("run") else []
    return broken(hfopt(folder, *command.split(), *more)) or _outside_changed(outer)


# -- what a model names ------------------------------------------------------------------------------------------------

NAMED = {
    "a file of the system": "/etc/passwd",
    "a file by dots": "here:../../../../../outside/secret",
    "a file of another artifact, by dots": "artifact:" + "a" * 64 + "/../../../../outside/secret",
    "an input by dots": "input:0123/../../outside/secret",
    "a device": "/dev/zero",
    "nothing": "here:",
    "a file that is not there": "here:absent",
}


def _named(place: str, outer: Path) -> str | None:
    """A model that names a file elsewhere, in an artifact that is whole otherwise: it is not handed on."""
    folder = _finished(outer)
    shutil.rmtree(folder / "hfopt-output" / "best")
    for artifact in _artifacts(folder):
        if _manifest(artifact)["kind"] == "pass":
            model = json.loads((artifact / "model.json").read_text())
            model["companions"] = [place]
            _write(artifact / "model.json", json.dumps(model))
            _reseal(artifact)
    ended = hfopt(folder, "run", "config.json", "-p", TOY)
    found = [file for file in (folder / "hfopt-output").rglob("*") if file.is_file() and _holds_secret(file)]
    return broken(ended, codes=(0, 1)) or _outside_changed(outer) or (f"it is in {found[0].name}" if found else None)


def _holds_secret(file: Path) -> bool:
    text = file.read_text("utf-8", "replace")
    return file.name != "hfopt.log" and (SECRET in text or "root:x:0:0" in text)


def _reseal(artifact: Path) -> None:
    """Make the manifest of a changed artifact agree with it, as whoever forges one would."""
    from hfopt.cache.manifest import Manifest, digest_of, list_files

    manifest = Manifest.model_validate_json((artifact / "manifest.json").read_bytes())
    files = tuple(each for each in list_files(artifact) if each.path != "manifest.json")
    manifest = manifest.model_copy(update={"files": files, "digest": digest_of(files)})
    manifest = manifest.model_copy(update={"seal": manifest.digest_of_itself()})
    _write(artifact / "manifest.json", manifest.model_dump_json())


# -- parcels -----------------------------------------------------------------------------------------------------------

PARCELS: dict[str, Callable[[Path], object]] = {
    "a byte flipped": lambda artifact: _flip(artifact / "model.json", 0.5),
    "a link to a file outside": lambda artifact: _link_outside(artifact),
    "another name": lambda artifact: artifact.rename(artifact.with_name("b" * 64)),
    "a name that is no key": lambda artifact: artifact.rename(artifact.with_name("..x")),
    "a stray file": lambda artifact: (artifact / "tokenizer.json").write_text("{}"),
    "no manifest": lambda artifact: (artifact / "manifest.json").unlink(),
}


def _link_outside(artifact: Path) -> None:
    (artifact / "model.json").unlink()
    (artifact / "model.json").symlink_to(artifact.parents[2] / OUTSIDE / "secret")


def _parcel(change: Callable[[Path], object], outer: Path) -> str | None:
    folder = _finished(outer)
    exported = hfopt(folder, "cache", "export", "third", "--to", "parcel", "--cache-dir", ".hfopt-cache")
    if exported.code != 0:
        return broken(exported) or "the export failed"
    change(next((folder / "parcel").iterdir()))
    (folder / "other" / "artifacts").mkdir(parents=True)
    adopted = hfopt(folder, "cache", "adopt", "parcel", "--cache-dir", "other")
    return broken(adopted, codes=(1,)) or _outside_changed(outer)


# -- the project -------------------------------------------------------------------------------------------------------


def _finished(outer: Path) -> Path:
    """A project whose run has ended, and beside it a folder that is none of its business."""
    folder = outer / "project"
    folder.mkdir()
    (outer / OUTSIDE / "ab" / ("a" * 64)).mkdir(parents=True)
    for file in ("secret", "ab/kept", f"ab/{'a' * 64}/kept"):
        (outer / OUTSIDE / file).write_text(SECRET)
    project = project_in(folder)
    project.write()
    ended = hfopt(folder, "run", "config.json", "-p", TOY)
    if ended.code != 0:
        raise RuntimeError(f"the first run failed: {ended.stderr}{ended.stdout}")
    return folder


def _artifacts(folder: Path) -> list[Path]:
    return sorted((folder / ".hfopt-cache" / "artifacts").glob("*/*"))


def _manifest(artifact: Path) -> dict[str, Any]:
    return json.loads((artifact / "manifest.json").read_text())


def _write(file: Path, text: str) -> None:
    file.chmod(0o644)
    file.write_text(text)


def _outcome(folder: Path) -> tuple[str, str]:
    """The model that was handed out, and its figures."""
    output = folder / "hfopt-output"
    candidate = json.loads((output / "run.json").read_text())["results"][0]["candidates"][0]
    figures = {name: metric["value"] for name, metric in candidate["metrics"].items()}
    model = hashlib.sha256((output / "best" / "line.json").read_bytes()).hexdigest()
    return model, json.dumps(figures, sort_keys=True)


def _outside_changed(outer: Path) -> str | None:
    files = ("secret", "ab/kept", f"ab/{'a' * 64}/kept")
    intact = all((outer / OUTSIDE / file).is_file() for file in files)
    return None if intact and (outer / OUTSIDE / "secret").read_text() == SECRET else "what lies outside was changed"
