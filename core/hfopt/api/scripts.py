"""Scripts of the user's: files whose functions a config names. They are loaded in workers only.

A script is a module of its own for every place and content. It is forgotten when the step ends, with what it imported
from its folder (``script_dir``), so that two scripts may have helpers of one name, and an edited one is read again.
"""

from __future__ import annotations

import linecache
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from hfopt.base.errors import PreconditionFailed
from hfopt.base.text import did_you_mean

_FOLDERS: list[str] = []
"""Those of the step's scripts."""
_LOADED: set[str] = set()
"""Names of these as modules."""
_OLIVE = re.compile(r"No module named '(olive)\b")


def _named(name: str | None = None) -> Callable[[Any], Any]:
    """Olive's decorators of functions: gives one a name by which a config may call it; None: its own."""
    return lambda function: function.__globals__.setdefault(name or function.__name__, function)


_REGISTER = ("register", "register_dataset", "register_pre_process", "register_post_process", "register_dataloader")
FRAMEWORKS = SimpleNamespace(ONNX="ONNX", PYTORCH="PyTorch")
EVERYWHERE = {"Framework": FRAMEWORKS, "Registry": SimpleNamespace(**dict.fromkeys(_REGISTER, _named))}
"""What every script finds without importing it."""


def load_function(script: Path, name: str, *, folder: Path | None = None, names: Mapping[str, Any]) -> Any:
    """A function of a script.

    :param folder: from which it may import: its ``script_dir``
    :param names: what the script finds without importing it, besides `EVERYWHERE`
    :raises PreconditionFailed: the script fails, with its line; or has no such function
    """
    module = _load(script, folder, names)
    found = getattr(module, name, None)
    if not callable(found):
        functions = [each for each, value in vars(module).items() if callable(value) and each not in names]
        hint = did_you_mean(name, functions) or f"it has {', '.join(functions) or 'none'}"
        raise PreconditionFailed(f"{script} has no function {name!r}", hint=hint)

    def call(*arguments: Any, **options: Any) -> Any:
        with own_line(script, f"{name} fails", folder):
            return found(*arguments, **options)

    call.__wrapped__ = found  # type: ignore[attr-defined]  # whose signature tells what it takes
    return call


def forget() -> None:
    """Take the scripts' folders from the import path, and scripts and what they imported from there out of memory."""
    for name, module in [*sys.modules.items()] if _LOADED else []:
        if name in _LOADED or any(_imported_from(each, name, module) for each in _FOLDERS):
            del sys.modules[name]
    for folder in _FOLDERS:
        with suppress(ValueError):  # the script itself may have taken it away
            sys.path.remove(folder)
    _FOLDERS.clear()
    _LOADED.clear()


def _imported_from(folder: str, name: str, module: ModuleType) -> bool:
    """Whether a module lies right in the folder, or in a package that does: not in an environment further below."""
    own = vars(module)  # not getattr: modules that load lazily make up what they are asked for
    places = [own.get("__file__"), *own.get("__path__", ())]
    top = f"{folder}/{name.partition('.')[0]}"
    return any(f"{place}/".startswith((f"{top}.", f"{top}/")) for place in places)


def _load(script: Path, folder: Path | None, names: Mapping[str, Any]) -> ModuleType:
    if folder is not None and str(folder) not in _FOLDERS:
        sys.path.append(str(folder))
        _FOLDERS.append(str(folder))
    name = f"hfopt_script_{script.stem}_{sha256(bytes(script) + script.read_bytes()).hexdigest()[:12]}"
    _LOADED.add(name)
    if name not in sys.modules:
        spec = spec_from_file_location(name, script)
        if spec is None or spec.loader is None:
            raise PreconditionFailed(f"{script} is not a Python file")
        module = module_from_spec(spec)
        vars(module).update({**EVERYWHERE, **names})
        sys.modules[name] = module
        try:
            with own_line(script, "can't be loaded", folder):
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    vars(sys.modules[name]).update(names)  # also those of another that has loaded it before
    return sys.modules[name]


@contextmanager
def own_line(script: Path, what: str, folder: Path | None = None) -> Iterator[None]:
    """Where a script's code runs: a failure names the line of it that failed last.

    :param what: happens then: ``can't be loaded``
    :raises PreconditionFailed: it raises anything but such an error
    """
    try:
        yield
    except PreconditionFailed:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code: it raises what it likes
        raise _told(error, script, what, folder) from error


def _told(error: BaseException, script: Path, what: str, folder: Path | None) -> PreconditionFailed:
    place, line = str(script), None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(script) or (folder is not None and Path(frame.filename).is_relative_to(folder)):
            place, line = frame.filename, frame.lineno
    if isinstance(error, SyntaxError) and error.filename is not None:
        place, line = error.filename, error.lineno
    hint = None
    if isinstance(error, ModuleNotFoundError) and _OLIVE.match(error.msg):
        hint = "remove the import: OliveModelHandler, Framework and Registry are there without it"
    elif isinstance(error, ModuleNotFoundError) and error.name and (script.parent / f"{error.name}.py").is_file():
        hint = "name its folder in script_dir: then it can import what lies there, and that counts too"
    said = f"{type(error).__name__}: {error}".removesuffix(": ")
    if line is None:
        return PreconditionFailed(f"{place}: {what}: {said}", hint=hint)
    text = linecache.getline(place, line).strip()
    return PreconditionFailed(f"{place}, line {line}: {what}: {said}\n    {text}", hint=hint)
