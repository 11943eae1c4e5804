"""Writes the pages of docs/reference that follow from the code: `make docs`. A test compares them.

Needs the plugins of this workspace to be installed.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import tomllib
import typing
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from hfopt import DataContainer
from hfopt.api import hookspecs
from hfopt.api.commands import OWN
from hfopt.api.systems import SystemConfig
from hfopt.api.timing import FIGURES, TimingConfig
from hfopt.base.errors import ExitCode
from hfopt.base.values import MOST_LEVELS, MOST_VALUES
from hfopt.cli.main import commands_of_plugins
from hfopt.cli.main import main as cli
from hfopt.config import schema
from hfopt.config.checker import MOST_ENTRIES
from hfopt.config.document import MOST_BYTES
from hfopt.discovery.known import known
from hfopt.discovery.plugins import KINDS, Plugins
from hfopt_data_containers.functions import Functions
from hfopt_data_containers.spellings import Components, ComponentSection, SpelledSection
from hfopt_olive_configs.dialect import IGNORED, REFUSED

REFERENCE = Path(__file__).parent / "reference"
MADE = "<!-- Made by `make docs`; change the code, not this page. -->\n"

ACTIONS = {"cache": ("ls", "explain", "rm", "verify", "prune", "export", "adopt")}
EXIT_CODES = {
    ExitCode.DONE: "done",
    ExitCode.NO_RESULT: "no usable result, a goal is missed, or what was printed is lost (a closed or full output)",
    ExitCode.USAGE: "the config or the command line is wrong; nothing has run",
    ExitCode.MISSING: "a needed plugin or accelerator is missing or broken; nothing has run",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C, SIGTERM or SIGHUP); the same command goes on",
}


def cli_page() -> str:
    """Every command with its arguments, and the exit codes."""
    parts = [f"# Commands\n{MADE}"]
    names = (*OWN, *commands_of_plugins(None))
    lines = [line for name in names for line in ([name], *([name, action] for action in ACTIONS.get(name, ())))]
    parts += [f"{'#' * (len(line) + 1)} hfopt {' '.join(line)}\n\n```text\n{_help(line)}```\n" for line in lines]
    rows = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in EXIT_CODES.items())
    parts.append(f"## Exit codes\n\n| code | meaning |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


def _help(arguments: list[str]) -> str:
    os.environ["COLUMNS"] = "100"  # argparse wraps at the terminal's width; the page must not depend on it
    shown = io.StringIO()
    with redirect_stdout(shown), suppress(SystemExit):
        cli([*arguments, "--help"])
    return shown.getvalue()


def config_page() -> str:
    """Every section of a run config, then what is refused or ignored."""
    sections: list[tuple[str, type[BaseModel]]] = [
        ("input_model", schema.Section),
        ("systems.NAME", schema.Section),
        ("systems.NAME.config", SystemConfig),
        ("data_configs[]", schema.DataEntry),
        ("evaluators.NAME.metrics[]", schema.Metric),
        ("evaluators.NAME.metrics[].sub_types[]", schema.SubType),
        ("passes.NAME", schema.PassSection),
        ("engine", schema.Engine),
    ]
    parts = [
        f"# The run config\n{MADE}",
        "A .json file (comments and trailing commas are accepted), .yaml or .toml. It holds what JSON does, whatever\n"
        "its format: no NaN, no tags, no dates, integers of 64 bits, text without control characters; at most\n"
        f"{MOST_BYTES // 1_000} kB, {MOST_VALUES:,} values (aliases written out), {MOST_LEVELS} levels, and "
        f"{MOST_ENTRIES} entries in a section.\n"
        "Keys of YAML are text as it is written. Unknown keys are errors. Paths of input files are relative to the\n"
        "config file's folder, then, with a notice, to the current folder; `output_dir` and `cache_dir` are\n"
        "relative to the current folder.\n"
        "Options of components: [components.md](components.md).\n",
    ]
    parts += [f"## {title}\n\n{_options(model)}" for title, model in sections]
    parts.append(
        "## metric_config of a latency or throughput metric\n\n"
        + _options(TimingConfig)
        + f"\nSub types: {', '.join(FIGURES)}; in milliseconds a call, or in rows a second. Latency has two more for "
        + "models that write text, on average over rows: `ttft`, the time to the first token, which is that of a row,\n"
        + "and `tpot`, the time per token after it, of one token behind a row, given what the model keeps of the row.\n"
        + "The one of a size metric is bytes.\n"
    )
    for title, table in (("Refused in this version", REFUSED), ("Ignored with a notice", IGNORED)):
        rows = [
            f"| {'(top level)' if section == 'top' else section} | {key} | {why} |"
            for section, keys in table.items()
            for key, why in keys.items()
        ]
        parts.append(f"## {title}\n\n| section | key | why |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def components_page() -> str:
    """Every component of this workspace, with its options."""
    parts = [f"# Components\n{MADE}"]
    plugins = Plugins.discover()
    for hook, kind in KINDS.items():
        if hook == "hfopt_commands":
            continue  # cli.md has those
        offers = [
            registered
            for registered in plugins.of_kind(hook)
            if registered.component.name in known(hook) or registered.plugin == "hfopt"
        ]
        for registered in sorted(offers, key=lambda registered: registered.component.name):
            summary = f"{registered.component.summary}. From `{registered.distribution}`.\n"
            cls = registered.load()
            options = f"{_entry(cls)}{_options(cls.Config)}{_types(cls)}" if hasattr(cls, "Config") else ""
            parts.append(f"## {registered.component.name} ({kind})\n\n{summary}\n{options}")
    return "\n".join(parts)


def _entry(cls: type) -> str:
    """The keys of an entry of ``data_configs`` besides name and type."""
    if not issubclass(cls, DataContainer):
        return ""
    return f"In the entry, beside `name` and `type`:\n\n{_options(cls.Section)}\nIn `params_config`:\n\n"


def _types(cls: type) -> str:
    """The types that a config may name for a data container's components."""
    components = getattr(cls, "components", {})
    rows = [
        f"| {component} | {name} | {'used' if reason is None else 'refused'} | {reason or ''} |"
        for component, types in components.items()
        for name, reason in types.items()
    ]
    return "\n| component | type | | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n" if rows else ""


def olive_keys_page() -> str:
    """What becomes of every key of Olive 0.6.1, and of those that write data from 0.6.2 on."""
    parts = [
        f"# Keys of Olive 0.6.1\n{MADE}",
        "*used*: as Olive means it, or as the note says; defaults that differ are in [olive.md](olive.md).\n"
        "*ignored*: accepted, of no effect. *refused*: an error with this reason, unless it asks for nothing.\n",
    ]
    table = tomllib.loads((Path(__file__).parent / "olive-keys.toml").read_text("utf-8"))
    for section in table["section"]:
        fates = {key: _fate(section["where"], key) for key in section["keys"].split()}
        rows = [f"| `{key}` | {' | '.join(fate)} |" for key, fate in fates.items()]
        parts.append(
            f"## {section['title']}\n\n| key | what becomes of it | |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _fate(where: str, key: str) -> tuple[str, str]:
    """What becomes of a key, from the code that decides it."""
    if where == "user_config" and key in Functions.model_fields:
        return "used", Functions.model_fields[key].description or ""
    if (reason := REFUSED.get(where, {}).get(key)) is not None:
        return "refused", reason
    if (notice := IGNORED.get(where, {}).get(key)) is not None:
        return "ignored", f"with a notice: {notice}"
    if where == "top" and key in (*schema.SECTIONS, *known("hfopt_config_sections")):
        return "used", ""
    field = {each.alias or name: each for name, each in _section_model(where).model_fields.items()}[key]
    text = (field.description or "").replace("|", "\\|")
    if text.startswith("Not available"):
        return "refused", next((_because(each) for each in _validators(field)), text)
    return ("ignored", text) if text.startswith(("Of no effect", "Accepted")) else ("used", text)


class _DataEntry(schema.DataEntry, SpelledSection):
    """All keys of an entry whose container is HuggingfaceContainer."""


def _section_model(where: str) -> type[BaseModel]:
    sections: dict[str, type[BaseModel]] = {
        "systems": schema.Section,
        "data_configs": _DataEntry,
        "components": Components,
        "component": ComponentSection,
        "metrics": schema.Metric,
        "user_config": schema.UserConfig,
        "sub_types": schema.SubType,
        "passes": schema.PassSection,
        "engine": schema.Engine,
    }
    if where in sections:
        return sections[where]
    component, *path = where.split(".")
    offers = Plugins.discover().components
    model: type[BaseModel] = next(each for each in offers if each.component.name == component).load().Config
    for name in path:
        model = next(iter(_nested(model.model_fields[name].annotation)))
    return model


def _validators(field: FieldInfo) -> list[Any]:
    """What `hfopt.api.config.only` put on a field, wherever in its annotation."""
    found = list(field.metadata)
    for argument in typing.get_args(field.annotation):
        found += getattr(argument, "__metadata__", ())
    return [each for each in found if getattr(getattr(each, "func", None), "__name__", "") == "check"]


def _because(validator: Any) -> str:
    return str(inspect.getclosurevars(validator.func).nonlocals["because"])


def hooks_page() -> str:
    """Every hook, from its specification."""
    parts = [f"# Hooks\n{MADE}", inspect.cleandoc(hookspecs.__doc__ or "") + "\n"]
    for name, spec in vars(hookspecs).items():
        if name.startswith("hfopt_"):
            signature = str(inspect.signature(spec)).replace("'", "")
            parts.append(f"## {name}\n\n```text\n{name}{signature}\n\n{inspect.getdoc(spec)}\n```\n")
    return "\n".join(parts)


def _options(model: type[BaseModel]) -> str:
    rows = [f"| {name} | {type_} | {default} | {text} |" for name, type_, default, text in _fields(model, "")]
    if not rows:
        return "No options.\n"
    return "| key | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key, _type_name(field.annotation), _default(field), (field.description or "").replace("|", "\\|")
        for nested in _nested(field.annotation):
            yield from _fields(nested, f"{key}.")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or isinstance(field.default, BaseModel):
        return ""
    return f"`{json.dumps(to_jsonable_python(field.default))}`"


def _type_name(annotation: Any) -> str:
    names = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", Any: "any"}
    if annotation in names:
        return names[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is tuple and ... not in arguments:
        return f"[{', '.join(_type_name(argument) for argument in arguments)}]"
    if origin in (tuple, list, set, frozenset):
        return f"list of {_type_name(arguments[0])}"
    if origin is dict or annotation is dict:
        return "object"
    if arguments:
        return " or ".join(dict.fromkeys(_type_name(argument) for argument in arguments))
    return "object"


def _nested(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    if typing.get_origin(annotation) not in (tuple, list, dict):
        for argument in typing.get_args(annotation):
            yield from _nested(argument)


PAGES = {
    "cli.md": cli_page,
    "components.md": components_page,
    "config.md": config_page,
    "hooks.md": hooks_page,
    "olive-keys.md": olive_keys_page,
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (REFERENCE / file).write_text(page(), "utf-8")
