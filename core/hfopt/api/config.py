"""The base of every config model, and field types whose values mean something outside the config.

Light: pydantic only. Reading the user's file belongs to ``hfopt.config``.
"""

from __future__ import annotations

import os
import re
from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from hfopt.api.references import MARK, Reference
from hfopt.base.errors import HfoptError
from hfopt.base.inside import regular_file
from hfopt.base.text import did_you_mean

_NAMED = 100
"""Names of which an unknown one may be meant: more are not told."""
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[\w.-]{1,96})?", re.ASCII)


class Config(BaseModel):
    """Base of all option models: unknown keys are errors, values are JSON of the stated type, and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=(), validate_default=False)

    def ignored(self) -> Mapping[str, str]:
        """Options that differ from their default and yet change nothing, each with the reason.

        The user gets a notice for each.
        """
        return {}

    def written(self, *names: str) -> list[str]:
        """Which of these options differ from their default, as the user writes them."""
        fields = type(self).model_fields
        return [fields[name].alias or name for name in names if getattr(self, name) != fields[name].default]


class Configured(ABC):
    """What a plugin offers and a config names: a class with a model of its options, made with options of that model."""

    Config: ClassVar[type[Config]]

    def __init__(self, config: Any) -> None:
        self.config = config


class ConfigSection(Configured):
    """What a plugin has at the top of a config, under a key of its own: options that its components share.

    The component's name is the key. While components' options are validated, `ConfigContext.sections` has it.
    """


@dataclass
class ConfigContext:
    """pydantic's validation context: what a config's values may refer to, and what they turn out to refer to.

    :param folder: the folder of the config file; relative input paths start there
    :param data_names: the names under ``data_configs``; None if they can't be read: then every name passes
    :param used_paths: the input paths found, absolute
    :param used_data: the names of data configs found
    :param notices: sentences for the user
    :param roots: folders in which input paths are looked for before the config file's own
    :param sections: what the config says under the keys that plugins own, by key
    """

    folder: Path
    data_names: frozenset[str] | None = frozenset()
    used_paths: list[Path] = field(default_factory=list)
    used_data: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    roots: tuple[Path, ...] = ()
    sections: Mapping[str, Config] = field(default_factory=dict)


def find_input(value: str, context: ConfigContext) -> Path | None:
    """Where an input path of a config lies: beside the config file, else (with a notice) in the current folder.

    :return: an absolute path, or None if nothing of that name exists
    :raises ValueError: neither a folder nor a regular file is there
    """
    if not value:
        return None
    beside = [folder / value for folder in (*context.roots, context.folder)]
    found = next(filter(os.path.exists, (*beside, Path(value))), None)  # which is false of what is too long for a path
    if found is None:
        return None
    if found not in beside:
        context.notices.append(f"{value}: taken from the current folder (not found in the config file's)")
    if not found.is_dir():
        try:
            regular_file(found)
        except HfoptError as error:
            raise ValueError(error.message) from error
    return found.absolute()


def looks_like_hub_name(value: str) -> bool:
    """Whether a string could name something on a hub: ``name`` or ``owner/name``, and no path."""
    return _HUB_NAME.fullmatch(value) is not None and ".." not in value


def plain_name(name: str) -> str:
    """A name that may be a folder's.

    :raises ValueError: it is none
    """
    if not _PLAIN.fullmatch(name):
        raise ValueError(
            "must be a plain name: at most 200 letters, digits, '_', '-' and '.', the first neither '-' nor '.'"
        )
    return name


def _existing_path(value: str, info: ValidationInfo) -> str:
    if not isinstance(info.context, ConfigContext) or value.startswith(MARK):
        return value
    found = find_input(value, info.context)
    if found is None:
        if (reference := Reference.of_url(value)) is not None:
            return reference.token
        raise ValueError(f"no such file or folder: {value}")
    info.context.used_paths.append(found)
    return str(found)


def _known_data(value: str, info: ValidationInfo) -> str:
    if isinstance(info.context, ConfigContext):
        if info.context.data_names is not None and value not in info.context.data_names:
            raise UnknownName("data config", value, sorted(info.context.data_names))
        info.context.used_data.append(value)
    return value


class UnknownName(ValueError):
    """A name that is not among those that the config defines.

    :param kind: what is named
    :param name: as written
    :param known: the names that would have done
    """

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        more = f" and {len(known) - _NAMED:,} more" if len(known) > _NAMED else ""
        super().__init__(f"no {kind} named {name!r}; there is {', '.join(known[:_NAMED]) or 'none'}{more}")
        self.name = name
        self.known = known


class OptionError(ValueError):
    """An option that does not fit the others. A model validator raises it; it is reported at that option.

    :param option: as the user writes it; or its place, where it stands further inside
    :param error: what is wrong with it
    """

    def __init__(self, option: str | tuple[str, ...], error: str | ValueError) -> None:
        super().__init__(str(error))
        self.place = (option,) if isinstance(option, str) else option
        self.error = error if isinstance(error, ValueError) else ValueError(error)


_HOLDS: Mapping[str, str] = {
    **dict.fromkeys(("file", "local_file", "folder", "local_folder"), "path"),
    "string_name": "name",
}
"""Types of resources that are a local path or a name, and the key of their ``config`` that holds it."""


def unwrap_resource(value: Any) -> Any:
    """The path or name in a resource as Olive writes it: ``{"type": "folder", "config": {"path": "model"}}``.

    Of a type that holds neither it is the token of a `Reference`. Any other value is returned as it is.

    :raises UnknownName: a type whose name is nearly that of one that holds a path or a name
    """
    if not isinstance(value, dict) or value.keys() != {"type", "config"}:
        return value
    kind, held = str(value["type"]), value["config"]
    key = _HOLDS.get(kind.casefold())
    if key is None and did_you_mean(kind, _HOLDS):
        raise UnknownName("type of resource", kind, sorted(_HOLDS))
    if not isinstance(held, dict) or (key is not None and held.keys() != {key}):
        raise ValueError(f"a {kind} has {f'nothing but a {key} in' if key else 'an object as'} its config")
    return Reference(kind, held).token if key is None else held[key]


PlainName = Annotated[str, AfterValidator(plain_name)]
"""A name that may be a folder's."""
InputPath = Annotated[str, BeforeValidator(unwrap_resource), AfterValidator(_existing_path)]
"""A file or folder that must exist; absolute once validated. A step's key depends on its content, not on its path.

It may lie elsewhere: then it is a reference's token while the config is validated, and a path where a step runs.
"""

DataName = Annotated[str, AfterValidator(_known_data)]
"""The name of an entry of ``data_configs``. A pass gets the prepared rows as ``context.data[name]``."""


def only(*accepted: Any, because: str) -> AfterValidator:
    """For an option of which this version supports some values only.

    :param accepted: the supported values
    :param because: the message for any other value
    """

    def check(value: Any) -> Any:
        if value not in accepted:
            raise ValueError(because)
        return value

    return AfterValidator(check)


ReportProgress = Callable[[str, int, int | None], None]
"""``(phase, done, total)``; total is None where the count is unknown."""
