"""Plugins as distributions on disk: what is found, what is refused, what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hfopt.config.olive.dialect import UNAVAILABLE
from hfopt.discovery.known import KNOWN
from hfopt.discovery.plugins import Plugins, Unresolved

GOOD = """
from hfopt import Component, hookimpl

@hookimpl
def hfopt_passes():
    return [Component("Prune", "acme:Prune", "prunes")]
"""


def distribution(folder: Path, name: str, hooks: str, requires: str = "hfopt>=0.1") -> None:
    """What pip leaves of a plugin: a module, and a .dist-info with its entry point."""
    module = name.replace("-", "_") + "_hooks"
    (folder / f"{module}.py").write_text(hooks)
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {requires}\n")
    (info / "entry_points.txt").write_text(f"[hfopt.plugins]\n{name} = {module}\n")


def listed(folder: Path) -> dict[str, dict]:
    """`hfopt plugins --json` with that folder on the path, by plugin."""
    done = subprocess.run(
        [sys.executable, "-m", "hfopt", "plugins", "--json"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {plugin["name"]: plugin for plugin in json.loads(done.stdout)}


def test_a_plugin_is_found_with_its_version_and_what_it_offers(tmp_path):
    distribution(tmp_path, "acme", GOOD)

    assert listed(tmp_path)["acme"] == {
        "name": "acme",
        "distribution": "acme",
        "version": "1.0",
        "problem": None,
        "components": [{"kind": "pass", "name": "Prune", "summary": "prunes"}],
    }


def test_a_plugin_installed_a_moment_later_is_seen_at_once(tmp_path):
    distribution(tmp_path, "acme", GOOD)
    assert "globex" not in listed(tmp_path)

    distribution(tmp_path, "globex", GOOD)

    assert "globex" in listed(tmp_path)


HOOK = "from hfopt import hookimpl\n@hookimpl\n"
FAULTS = {
    "raise SystemExit(4)": "SystemExit: 4",
    "assert False, 'not today'": "AssertionError: not today",
    "import torchh": "No module named 'torchh'",
    HOOK + "def hfopt_pases(): pass": "PluginValidationError: unknown hook 'hfopt_pases'",
    HOOK + "def hfopt_passes(model): pass": "PluginValidationError: Plugin 'broken' for hook",
    HOOK + "def hfopt_passes(): raise OSError('disk')": "OSError: disk",
}


@pytest.mark.parametrize("hooks", FAULTS)
def test_a_broken_plugin_is_shown_with_its_reason_and_stops_no_other(tmp_path, hooks):
    distribution(tmp_path, "broken", hooks)
    distribution(tmp_path, "zebra", GOOD)

    plugins = listed(tmp_path)

    assert plugins["broken"]["problem"].startswith(FAULTS[hooks])
    assert plugins["broken"]["components"] == []
    assert plugins["zebra"]["components"] != []


def test_a_plugin_for_another_core_is_refused_before_it_is_imported(tmp_path):
    mark = tmp_path / "imported"
    distribution(tmp_path, "future", f"open({str(mark)!r}, 'w')", requires="hfopt>=99")

    problem = listed(tmp_path)["future"]["problem"]

    assert problem == "made for hfopt >=99; this is hfopt 0.1.0"
    assert not mark.exists()


def test_an_unknown_component_repeats_why_a_plugin_is_not_loaded(tmp_path):
    distribution(tmp_path, "broken", "import torchh")
    (tmp_path / "config.json").write_text(
        json.dumps({"input_model": {"type": "Nothing"}, "passes": {"a": {"type": "Prnue"}}})
    )

    done = subprocess.run(
        [sys.executable, "-m", "hfopt", "validate", str(tmp_path / "config.json")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert "passes.a.type: no pass named 'Prnue'" in done.stderr
    assert "  not loaded: broken (broken 1.0): No module named 'torchh'" in done.stderr


def offering(name):
    from hfopt import Component, hookimpl

    class Plugin:
        @hookimpl
        def hfopt_passes(self):
            return [Component(name, "json:JSONDecoder", "")]

    return Plugin()


def test_two_plugins_offering_the_same_pass_are_both_named_and_a_full_name_chooses():
    plugins = Plugins()
    plugins.register(offering("Quantize"), name="acme")
    plugins.register(offering("quantize"), name="globex")

    with pytest.raises(Unresolved) as failure:
        plugins.find("hfopt_passes", "QUANTIZE")

    assert failure.value.message == "pass 'QUANTIZE' is offered by several plugins"
    assert failure.value.hint == "write 'acme:Quantize' or 'globex:quantize'"
    assert plugins.find("hfopt_passes", "globex:Quantize").plugin == "globex"


def test_two_plugins_of_one_name_leave_the_first_in_place():
    plugins = Plugins()
    plugins.register(offering("One"), name="acme")
    plugins.register(offering("Two"), name="acme")

    assert [registered.component.name for registered in plugins.components] == ["One"]
    assert plugins.infos[1].problem is not None
    assert plugins.manager.has_plugin("acme")


def test_a_known_component_that_is_not_installed_answers_with_the_install_line():
    with pytest.raises(Unresolved) as failure:
        Plugins().find("hfopt_passes", "onnxconversion")

    assert failure.value.missing is True
    assert failure.value.message == "pass 'OnnxConversion' needs hfopt-onnx-conversion, which is not installed"
    assert failure.value.hint == "pip install './plugins/onnx_conversion[cpu]'"


def test_a_plugin_file_that_is_missing_or_fails_is_a_usage_error(tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0")
    (tmp_path / "quits.py").write_text("raise SystemExit(4)")

    for file, message in (
        ("none.py", "none.py: no such file"),
        ("bad.py", "bad.py: ZeroDivisionError: division by zero"),
        ("quits.py", "quits.py: SystemExit: 4"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "hfopt", "plugins", "-p", file], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (2, f"hfopt: -p {message}\n")


@pytest.mark.parametrize("hook", UNAVAILABLE)
def test_nothing_that_a_distribution_offers_is_called_unavailable(hook):
    assert not {*UNAVAILABLE[hook]} & {*KNOWN[hook]}


def test_a_plugin_may_offer_what_this_version_has_not(tmp_path):
    file = tmp_path / "fog.py"
    file.write_text(
        "from hfopt import Component, hookimpl\n"
        "@hookimpl\n"
        "def hfopt_passes():\n"
        "    return [Component('IncQuantization', 'fog:Pass', 'quantizes')]\n"
    )

    assert Plugins.discover([file]).find("hfopt_passes", "incquantization").plugin == "fog"
    with pytest.raises(Unresolved, match=r"^no pass named 'incquantization'; installed: "):
        Plugins.discover().find("hfopt_passes", "incquantization")
