"""``hfopt doctor``: what a report of a problem needs to say about a machine, its plugins and its account on the hub."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from hfopt import Command, HfoptError, PreconditionFailed, __version__
from hfopt.api.workers import environment
from hfopt_hf_hub.login import account, places
from hfopt_hf_hub.sentences import endpoint

_NOTES = {"darwin": "macOS is untested", "win32": "not supported: use WSL"}
_PROVIDERS = "import json, onnxruntime as o; print(json.dumps([o.__version__, o.get_available_providers()]))"


class DoctorCommand(Command):
    """Reads, asks the hub once, and changes nothing. What imports frameworks runs in a process of its own."""

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("--offline", action="store_true", help="make no request, as with HF_HUB_OFFLINE=1")
        parser.add_argument(
            "--json", action="store_true", help="print the findings as JSON on stdout, and nothing else"
        )

    @classmethod
    def execute(cls, args: Namespace) -> int:
        found = examine(offline=args.offline)
        if args.json:
            print(json.dumps(found, indent=1))
        else:
            print(*(f"{name:13} {text}".rstrip() for name, text in lines(found)), sep="\n")
        if found["onnxruntime"]["problem"] or any(each["problem"] for each in found["plugins"]):
            return 3
        return 1 if found["hub"]["refused"] else 0


def examine(*, offline: bool) -> dict[str, Any]:
    """All that the command prints, as JSON. No token is part of it."""
    installed = _installed()
    providers = [each for each in installed if any(c["kind"] == "token provider" for c in each["components"])]
    return {
        "hfopt": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "platform_note": _NOTES.get(sys.platform),
        "cpu": _cpu(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "plugins": [{"name": _name(each), "version": each["version"], "problem": _problem(each)} for each in installed],
        "onnxruntime": _onnxruntime(),
        "hub": {**_hub(offline=offline), "token_providers": [_name(each) for each in providers]},
    }


def lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was found, for people: a name and a text in each line."""
    yield "hfopt", found["hfopt"]
    yield "Python", found["python"]
    yield "platform", _joined(found["platform"], "; ", found["platform_note"])
    yield "CPU", f"{found['cpu']}, {found['threads']} threads"
    for plugin in found["plugins"]:
        named = _joined(plugin["name"], " ", plugin["version"])
        yield "plugin", _joined(named, ": NOT LOADED: ", plugin["problem"])
    runtime, hub = found["onnxruntime"], found["hub"]
    version = _joined(runtime["version"], " with ", ", ".join(runtime["providers"])) if runtime["version"] else None
    yield "ONNX Runtime", version or runtime["problem"] or "not installed"
    yield "hub", hub["endpoint"]
    yield "token", hub["token"] or _joined("none of yours", "; runs ask ", ", ".join(hub["token_providers"]))
    yield "logged in", hub["account"] or _joined(hub["problem"], ": ", hub["hint"])


def _joined(text: str, by: str, more: str | None) -> str:
    return f"{text}{by}{more}" if more else text


def _cpu() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _installed() -> list[dict[str, Any]]:
    """What ``hfopt plugins`` knows.

    :raises HfoptError: it fails
    """
    done = _python("-m", "hfopt", "plugins", "--json")
    if done.returncode:
        raise HfoptError(f"`hfopt plugins` fails: {_last_line(done.stderr)}", hint="run it to see more")
    return list(json.loads(done.stdout))


def _name(plugin: Mapping[str, Any]) -> str:
    return str(plugin["distribution"] or plugin["name"])


def _problem(plugin: Mapping[str, Any]) -> str | None:
    """Why a plugin, or something that it offers, is not loaded."""
    return next((each["problem"] for each in (plugin, *plugin["components"]) if each["problem"]), None)


def _onnxruntime() -> dict[str, Any]:
    found: dict[str, Any] = {"version": None, "providers": [], "problem": None}
    if find_spec("onnxruntime") is None:
        return found
    done = _python("-c", _PROVIDERS)
    if done.returncode:
        return {**found, "problem": f"can't be imported: {_last_line(done.stderr)}"}
    version, providers = json.loads(done.stdout)
    return {**found, "version": version, "providers": providers}


def _hub(*, offline: bool) -> dict[str, Any]:
    """Where the hub is, the place that the user's token is from, and whose it is, or why that is not known."""
    from huggingface_hub import constants

    place, token = next(iter(places().items()), (None, None))
    address = re.sub(r"^(\w+://)?.*@", r"\1", endpoint())  # without user and password
    found = {"endpoint": address, "token": place, "account": None, "refused": False, "problem": None, "hint": None}
    if offline or constants.HF_HUB_OFFLINE:
        return {**found, "problem": "not asked", "hint": "offline"}
    try:
        name = account(token)
    except PreconditionFailed as failure:
        refused = getattr(getattr(failure.__cause__, "response", None), "status_code", None) == 401
        return {**found, "refused": refused, "problem": failure.message, "hint": failure.hint}
    if name is None:
        return {**found, "problem": "nobody", "hint": "run `hf auth login`, or set HF_TOKEN, if a model is gated"}
    return {**found, "account": name}


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process without credentials and telemetry."""
    command = [sys.executable, "-P", *arguments]  # no module of the current folder is taken for a package
    return subprocess.run(command, env=environment(offline=True), capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1]
