"""best/ and its like: copies of models that stand on their own."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from hfopt.api.model import ModelHandle, ModelLoader
from hfopt.api.packaging import RankedModel
from hfopt.api.record import CandidateRecord, ResultRecord
from hfopt.base.errors import HfoptError
from hfopt.base.files import BEST, read_own, remove_folder
from hfopt.base.version import __version__
from hfopt.cache.digests import Digests
from hfopt.cache.locks import exclusive
from hfopt.cache.manifest import ArtifactFile, list_files
from hfopt.cache.store import MODEL, ArtifactMissing, ArtifactStore
from hfopt.discovery.plugins import Plugins
from hfopt.engine.ranking import merit
from hfopt.engine.record import RunRecord
from hfopt.engine.state import EndedRun
from hfopt.planning.graph import Step
from hfopt.worker.context import load_options

_TEMPORARY = ".hfopt-making-"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def save_models(run: EndedRun) -> None:
    """Save each accelerator's result, and the models of passes that have an ``output_name``.

    The first accelerator's result is best/; that of another lies beside it, in best-DEVICE-PROVIDER/.
    """
    wanted: dict[str, Step] = {}
    for number, (branch, result) in enumerate(run.best.items()):
        provider = branch.accelerator.execution_provider.removesuffix("ExecutionProvider").lower()
        suffix = f"-{branch.accelerator.device}-{provider}" if number else ""
        if result is not None and result.model in run.state.manifests:
            wanted[BEST + suffix] = result.model
        saved = branch.candidates[-1:] if result is None else [result]
        for step in (step for each in saved for step in each.passes):
            entry = run.plan.config.passes.get(step.name)
            if entry is not None and entry.output_name is not None and step in run.state.manifests:
                wanted[entry.output_name + suffix] = step
    with exclusive(run.folder) as certain:
        for leftover in run.folder.glob(f"{_TEMPORARY}*") if certain else ():
            shutil.rmtree(leftover, ignore_errors=True)
        for name, step in wanted.items():
            save_model(run.folder / name, run.state.key(step), run)


def package(run: EndedRun, record: RunRecord) -> list[Path]:
    """Hand on every model that was measured, as ``engine.packaging_config`` asks.

    :return: what was made
    """
    if not run.plan.config.packagers:
        return []
    with TemporaryDirectory(prefix=".packaging-", dir=run.folder) as folder:
        models = []
        search = run.plan.config.search
        most = None if search is None else search.section.output_model_num
        for rank, (result, candidate) in enumerate(ranking(record.results)[:most], 1):
            key = next(step["key"] for step in candidate["steps"] if step["key"].startswith(candidate["id"]))
            copy = Path(folder) / str(rank)
            save_model(copy, key, run)
            models.append(RankedModel(rank, candidate, result["accelerator"], copy))
        made = [(name, chosen.cls(chosen.config)) for name, chosen in run.plan.config.packagers]
        return [packager.package(name, models, record.data, run.folder) for name, packager in made] if models else []


def ranking(results: Sequence[ResultRecord]) -> list[tuple[ResultRecord, CandidateRecord]]:
    """Every model that was measured, best first: goals count most, then figures by priority.

    :return: pairs of a result and one of its candidates
    """
    pairs = [(result, each) for result in results for each in result["candidates"] if each["status"] == "succeeded"]
    return sorted(pairs, key=lambda pair: merit(pair[1]))


def save_model(target: Path, key: str, run: EndedRun) -> None:
    """Copy the model of an artifact into `target`: its files, model.json, and a README that shows how to load it.

    The folder is made beside and swapped in, so that there is always either the old one or the new one. Nothing is done
    if it holds this model already, byte by byte.

    :raises ArtifactMissing: a file that was copied is not what it was when it was made
    """
    if _holds(target, key, run.store):
        return
    temporary = Path(mkdtemp(prefix=_TEMPORARY, dir=target.parent))
    try:
        os.chmod(temporary, 0o755)  # noqa: S103 - mkdtemp's 0700 is for secrets; a result is readable as any file
        handle = run.store.read_model(key)
        moved = copy_model(handle, temporary)
        files = list_files(temporary)
        _compare(handle, files, key, run.store)
        packed = ArtifactStore(temporary).pack(moved, temporary)
        described = {
            "hfopt": __version__,
            "artifact": key,
            "files": [each.model_dump() for each in files],
            "model": packed,
        }
        (temporary / MODEL).write_text(json.dumps(described, indent=1) + "\n", "utf-8")
        (temporary / "README.md").write_text(_readme(moved, run.plugins), "utf-8")
        swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds(target: Path, key: str, store: ArtifactStore) -> bool:
    """Whether `target` is a whole copy of the artifact."""
    digests = store.digests or Digests()
    try:
        described = read_own(target / MODEL)
        files = [ArtifactFile.model_validate(each) for each in described["files"]]
        return described["artifact"] == key and all(digests.of(target / each.path) == each.sha256 for each in files)
    except (OSError, ValueError, LookupError, TypeError, HfoptError):
        return False


def _compare(handle: ModelHandle, copies: Sequence[ArtifactFile], key: str, store: ArtifactStore) -> None:
    """See that each file that a model has from an artifact was copied as its manifest says; else none is kept."""
    made = {each.sha256 for each in copies}
    for origin, manifest in store.closure([key]).items():
        written = {store.folder(origin) / file.path: file.sha256 for file in manifest.files}
        if not made.issuperset(written[file] for file in handle.every_file if file in written):
            store.discard(origin)
            raise ArtifactMissing(origin)


def copy_model(handle: ModelHandle, folder: Path) -> ModelHandle:
    """Copy a model's files and companions below `folder`; components beside each other if no two files share a name.

    :return: the same model at its new place
    """
    base = handle.path if handle.path.is_dir() else handle.path.parent

    def copied(path: Path) -> Path:
        place = folder / (path.relative_to(base) if path.is_relative_to(base) else path.name)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy(path, place)
        return place

    names = [file.name for part in handle.components.values() for file in part.files]
    apart = len({*names}) < len(names)
    return handle.with_(
        files=tuple(map(copied, handle.files)),
        companions=tuple(map(copied, handle.companions)),
        path=folder / handle.path.relative_to(base),
        components={
            name: copy_model(part, folder / name if apart else folder) for name, part in handle.components.items()
        },
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a file in pieces between which an interrupt gets through: shutil.copyfile has the kernel copy up to 1 GB."""
    with open(source, "rb") as read, open(target, "wb") as write:
        shutil.copyfileobj(read, write, 16 * 2**20)


def swap(new: Path, target: Path) -> None:
    """Put `new` at `target`; what was there is at `new` afterwards. Atomic where the kernel has renameat2."""
    if not target.exists():
        os.rename(new, target)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    exchange = getattr(libc, "renameat2", None)
    arguments = (_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE)
    if exchange is None or exchange(*arguments) != 0:
        remove_folder(target)
        os.rename(new, target)


def _readme(handle: ModelHandle, plugins: Plugins) -> str:
    cls: type[ModelLoader] = plugins.find("hfopt_model_loaders", handle.type).load()
    snippet = cls(load_options(cls.Config, handle.config)).snippet(handle)
    shown = f"\n```python\n{snippet.strip()}\n```\n" if snippet else ""
    told = "Made by hfopt; `run.json`, which is handed out with it, says how it was made and measured."
    return f"# {handle.type}\n\n{told}\n{shown}"
