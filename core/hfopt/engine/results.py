"""best/ and its like: copies of models that stand on their own."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

from hfopt.api.model import Accelerator, ModelHandle, ModelLoader
from hfopt.api.packaging import RankedModel
from hfopt.base.files import BEST, remove_folder
from hfopt.base.version import __version__
from hfopt.cache.locks import exclusive
from hfopt.cache.store import MODEL, ArtifactStore, list_files
from hfopt.discovery.plugins import Plugins
from hfopt.planning.graph import Branch, Candidate, Plan, Step
from hfopt.worker.context import load_options

if TYPE_CHECKING:
    from hfopt.engine.record import RunRecord
    from hfopt.engine.state import RunState

_TEMPORARY = ".hfopt-making-"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def save_models(
    plan: Plan,
    best: Mapping[Branch, Candidate | None],
    state: RunState,
    store: ArtifactStore,
    plugins: Plugins,
    folder: Path,
) -> None:
    """Save each accelerator's result, and the models of passes that have an ``output_name``.

    The first accelerator's result is best/; that of another lies beside it, in best-DEVICE-PROVIDER/.
    """
    wanted: dict[str, Step] = {}
    for number, branch in enumerate(plan.branches):
        suffix = "" if number == 0 else _suffix(branch.accelerator)
        result = best[branch]
        if result is not None:
            wanted[BEST + suffix] = result.model
        made = {step.name: step for step in (result or branch.candidates[-1]).passes}
        for name, entry in plan.config.passes.items():
            if entry.output_name is not None and made.get(name) in state.manifests:
                wanted[entry.output_name + suffix] = made[name]
    with exclusive(folder) as certain:
        for leftover in folder.glob(f"{_TEMPORARY}*") if certain else ():
            shutil.rmtree(leftover, ignore_errors=True)
        for name, step in wanted.items():
            save_model(folder / name, state.key(step), store.read_model(state.key(step)), plugins)


def package(plan: Plan, state: RunState, store: ArtifactStore, plugins: Plugins, record: RunRecord) -> list[Path]:
    """Hand on every model that was measured, as ``engine.packaging_config`` asks.

    :return: what was made
    """
    if not plan.config.packagers:
        return []
    with TemporaryDirectory(prefix=".packaging-", dir=record.folder) as folder:
        models = []
        for rank, (result, candidate) in enumerate(ranking(record.results), 1):
            key = next(step["key"] for step in candidate["steps"] if step["key"].startswith(candidate["id"]))
            copy = Path(folder) / str(rank)
            save_model(copy, key, store.read_model(key), plugins)
            models.append(RankedModel(rank, candidate, result["accelerator"], copy))
        made = [(name, chosen.cls(chosen.config)) for name, chosen in plan.config.packagers]
        return [packager.package(name, models, record.data, record.folder) for name, packager in made] if models else []


def ranking(results: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every model that was measured, best first: goals count most, then figures by priority.

    :return: pairs of a result and one of its candidates
    """
    pairs = [(result, each) for result in results for each in result["candidates"] if each["status"] == "succeeded"]

    def merit(pair: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[bool, list[float]]:
        figures = sorted(pair[1]["metrics"].values(), key=lambda figure: int(figure["priority"]))
        signed = [-figure["value"] if figure["higher_is_better"] else figure["value"] for figure in figures]
        return pair[1]["goals_met"] is False, signed

    return sorted(pairs, key=merit)


def _suffix(accelerator: Accelerator) -> str:
    provider = accelerator.execution_provider.removesuffix("ExecutionProvider").lower()
    return f"-{accelerator.device}-{provider}"


def save_model(target: Path, key: str, handle: ModelHandle, plugins: Plugins) -> None:
    """Copy a model into `target`: its files, model.json, and a README that shows how to load it.

    The folder is made beside and swapped in, so that there is always either the old one or the new one. Nothing is done
    if it holds this model already.

    :param key: of the artifact that the model is
    """
    if _holds(target, key):
        return
    temporary = Path(mkdtemp(prefix=_TEMPORARY, dir=target.parent))
    try:
        os.chmod(temporary, 0o755)  # noqa: S103 - mkdtemp's 0700 is for secrets; a result is readable as any file
        moved = copy_model(handle, temporary)
        sizes = {file.path: file.size for file in list_files(temporary)}
        packed = ArtifactStore(temporary).pack(moved, temporary)
        described = {"hfopt": __version__, "artifact": key, "sizes": sizes, "model": packed}
        (temporary / MODEL).write_text(json.dumps(described, indent=1) + "\n", "utf-8")
        (temporary / "README.md").write_text(_readme(moved, plugins), "utf-8")
        swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds(target: Path, key: str) -> bool:
    """Whether `target` is a whole copy of the artifact."""
    try:
        described = json.loads((target / MODEL).read_text("utf-8"))
        whole = all((target / file).stat().st_size == size for file, size in described["sizes"].items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
    return whole and described["artifact"] == key


def copy_model(handle: ModelHandle, folder: Path) -> ModelHandle:
    """Copy a model's files and companions below `folder`.

    :return: the same model at its new place
    """
    base = handle.path if handle.path.is_dir() else handle.path.parent

    def copied(path: Path) -> Path:
        place = folder / (path.relative_to(base) if path.is_relative_to(base) else path.name)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy(path, place)
        return place

    return handle.with_(
        files=tuple(map(copied, handle.files)),
        companions=tuple(map(copied, handle.companions)),
        path=folder / handle.path.relative_to(base),
        components={name: copy_model(part, folder / name) for name, part in handle.components.items()},
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
