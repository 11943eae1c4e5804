"""Code that comes with a model: its config.json names classes in files beside it (``auto_map``).

It runs only if the config says ``trust_remote_code``. transformers copies it to its cache of
modules and imports it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed
from hfopt_hf_model_loader.folder import CONFIG, inside

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEY = "hf_config.from_pretrained_args.trust_remote_code"


def check(attributes: Mapping[str, Any], folder: Path, *, trusted: bool) -> None:
    """See that what config.json says needs no code, or code that is there and trusted.

    :raises PreconditionFailed: it names a type of model that transformers has not, and the code for it is not trusted;
        or code of another repository
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    names = dict(_named(attributes))
    if not names or (not trusted and attributes.get("model_type") in CONFIG_MAPPING_NAMES):
        return
    if not trusted:
        file, _, _ = names.get("AutoConfig", next(iter(names.values()))).rpartition(".")
        raise PreconditionFailed(
            f"{folder / CONFIG} names code of the model's own, {folder / file}.py, which is not run",
            hint=f"if you trust that file, set {KEY} to true",
        )
    for name in names.values():
        if "--" in name:
            repository, _, _ = name.partition("--")
            raise PreconditionFailed(
                f"{folder / CONFIG} names code in another repository, {repository}",
                hint="put a copy of its files beside config.json, and name them there without the repository",
            )
        inside(folder, f"{name.rpartition('.')[0]}.py")


def class_of(name: str, attributes: Mapping[str, Any], folder: Path) -> type[PreTrainedModel] | None:
    """The class that a model brings along for an auto class, or that has that name itself; None if it has none.

    :param attributes: config.json
    """
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    names = dict(_named(attributes))
    own = names.get(name) or next((each for each in names.values() if each.endswith(f".{name}")), None)
    if own is None:
        return None
    found: type[PreTrainedModel] = get_class_from_dynamic_module(own, folder, local_files_only=True)
    return found


def files(folder: Path) -> tuple[Path, ...]:
    """The Python files of a folder."""
    return tuple(inside(folder, str(file.relative_to(folder))) for file in sorted(folder.rglob("*.py")))


def _named(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The classes by the auto class that finds them."""
    written = attributes.get("auto_map")
    for auto, name in written.items() if isinstance(written, dict) else ():
        first = next((each for each in name if each), None) if isinstance(name, list) else name
        if isinstance(first, str):
            yield auto, first
