"""Plugins as distributions on disk: what is found, what is refused, what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hfopt import Component, hookimpl
from hfopt.base.errors import PluginError
from hfopt.cli.main import main
from hfopt.discovery.known import known
from hfopt.discovery.plugins import PluginInfo, Plugins, Unresolved
from hfopt_olive_configs.dialect import UNAVAILABLE

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
        "notices": [],
        "components": [
            {
                "kind": "pass",
                "name": "Prune",
                "summary": "prunes",
                "problem": "No module named 'acme'",
                "notices": [],
            }
        ],
    }


def test_a_plugin_installed_a_moment_later_is_seen_at_once(tmp_path):
    distribution(tmp_path, "acme", GOOD)
    assert "globex" not in listed(tmp_path)

    distribution(tmp_path, "globex", GOOD)

    assert "globex" in listed(tmp_path)


HOOK = "from hfopt import hookimpl\n@hookimpl\n"
COMPONENT = "import json\nfrom hfopt import Component, hookimpl\n@hookimpl\n"
FAULTS = {
    "raise SystemExit(4)": "SystemExit: 4",
    "assert False, 'not today'": "AssertionError: not today",
    "import torchh": "No module named 'torchh'",
    "raise ValueError('first line\\n  second line\\x1b[31m')": "ValueError: first line second line\\x1b[31m",
    HOOK + "def hfopt_passses(): pass": "there is no hook 'hfopt_passses': did you mean 'hfopt_passes'?",
    HOOK + "def hfopt_passes(model): pass": "hfopt_passes has no argument 'model', it has none",
    HOOK + "def hfopt_before_step(stepp, key): pass": "hfopt_before_step has no argument 'stepp', it has step, key: "
    "did you mean 'step'?",
    HOOK + "def hfopt_passes(): raise OSError('disk')": "OSError: disk",
    HOOK + "def hfopt_passes(): raise SystemExit(5)": "SystemExit: 5",
    HOOK + "def hfopt_passes(): return ['X']": "hfopt_passes must return a list of Component, and there is 'X' in it",
    HOOK + "def hfopt_passes(): return 'X'": "hfopt_passes must return a list of Component, and returned 'X'",
    HOOK + "def hfopt_passes(): return {}": "hfopt_passes must return a list of Component, and returned {}",
    HOOK + "def hfopt_passes(): return None": "hfopt_passes must return a list of Component, and returned None",
    HOOK + "def hfopt_passes(): return 5": "hfopt_passes must return a list of Component, and returned 5",
    COMPONENT + "def hfopt_passes(): return [Component('A', 'a:A', ''), Component('a', 'b:B', '')]": "hfopt_passes "
    "declares 'a' more than once; case does not matter",
    COMPONENT + "def hfopt_passes(): return [Component('A', 'a.A', '')]": "ValueError: component 'A': target 'a.A' is "
    "not of the form 'module:Class'",
    COMPONENT + "def hfopt_passes(): return [Component('A', json, '')]": "TypeError: component 'A': name, target and "
    "summary must be strings",
    COMPONENT
    + "def hfopt_passes(): return [Component('a:A', 'a:A', '')]": "ValueError: component 'a:A': a name is not "
    "empty and has no colon",
}


def test_broken_plugins_are_shown_each_with_its_whole_reason_and_stop_no_other(tmp_path):
    for number, hooks in enumerate(FAULTS):
        distribution(tmp_path, f"broken-{number:02}", hooks)
    distribution(tmp_path, "zebra", GOOD)

    plugins = listed(tmp_path)

    broken = [plugin for name, plugin in plugins.items() if name.startswith("broken")]
    assert [plugin["problem"] for plugin in broken] == list(FAULTS.values())
    assert [plugin["components"] for plugin in broken] == [[]] * len(FAULTS)
    assert plugins["zebra"]["components"] != []


NOTICES = {
    "": ["it has no @hookimpl: it offers nothing"],
    "def hfopt_passes(): return []": ["hfopt_passes has no @hookimpl: it is not called"],
    HOOK + "def hfopt_passes(): return []\ndef hfopt_systems(): return []": [
        "hfopt_systems has no @hookimpl: it is not called"
    ],
    f"import torch\n{HOOK}def hfopt_passes(): return []": ["imports torch at its top: import it where it is used"],
}


def test_hooks_without_a_mark_and_with_a_framework_at_their_top_get_a_notice(tmp_path):
    (tmp_path / "torch.py").write_text("")
    for number, hooks in enumerate(NOTICES):
        distribution(tmp_path, f"odd-{number}", hooks)

    plugins = listed(tmp_path)

    odd = [plugin for name, plugin in plugins.items() if name.startswith("odd")]
    assert [(plugin["problem"], plugin["notices"]) for plugin in odd] == [(None, each) for each in NOTICES.values()]


def test_what_plugins_are_called_moves_no_cursor(tmp_path, capsys):
    file = tmp_path / "rude.py"
    file.write_text(COMPONENT + "def hfopt_passes(): return [Component('A\\r', 'a:A', 'one\\ntwo\\x1b[2J')]")

    assert main(["plugins", "-p", str(file)]) == 0

    assert r"  pass            A\r                          one\ntwo\x1b[2J" in capsys.readouterr().out.splitlines()


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
    class Plugin:
        @hookimpl
        def hfopt_passes(self):
            return [Component(name, "json:JSONDecoder", "")]

    return Plugin()


def test_two_plugins_offering_the_same_pass_are_both_named_and_a_full_name_chooses():
    plugins = Plugins()
    plugins.register(PluginInfo("acme", hooks=offering("Quantize")))
    plugins.register(PluginInfo("globex", hooks=offering("quantize")))

    with pytest.raises(Unresolved) as failure:
        plugins.find("hfopt_passes", "QUANTIZE")

    assert failure.value.message == "pass 'QUANTIZE' is offered by several plugins"
    assert failure.value.hint == "write 'acme:Quantize' or 'globex:quantize'"
    assert plugins.find("hfopt_passes", "globex:Quantize").plugin == "globex"


def test_two_plugins_of_one_name_leave_the_first_in_place():
    plugins = Plugins()
    plugins.register(PluginInfo("acme", hooks=offering("One")))
    plugins.register(PluginInfo("acme", hooks=offering("Two")))

    assert [registered.component.name for registered in plugins.components] == ["One"]
    assert [info.problem for info in plugins.infos] == [None, "another plugin is named 'acme'"]
    assert plugins.manager.has_plugin("acme")


def test_two_names_of_the_same_hooks_are_one_plugin():
    plugins, hooks = Plugins(), offering("One")
    plugins.register(PluginInfo("acme", hooks=hooks))
    plugins.register(PluginInfo("globex", hooks=hooks))

    assert [registered.full_name for registered in plugins.components] == ["acme:One"]
    assert plugins.infos[1].problem == "its hooks are those of plugin 'acme'"


def test_a_run_goes_on_to_its_end_where_a_plugin_quits_in_every_lifecycle_hook(project):
    hooks = {"before_run": "plan", "before_step": "step", "after_step": "step", "after_run": "record"}
    quits = "".join(
        f"@hookimpl\ndef hfopt_{name}({argument}): raise SystemExit(7)\n" for name, argument in hooks.items()
    )
    (project.folder / "quitter.py").write_text(f"from hfopt import hookimpl\n{quits}")

    done = project.run("-p", "quitter.py")

    assert done.returncode == 0
    for name in hooks:
        assert f"note: plugin quitter: hfopt_{name} failed: SystemExit: 7\n" in done.stderr


class Quits:
    @hookimpl
    def hfopt_after_run(self, record):
        raise SystemExit(7)


class Listens:
    def __init__(self):
        self.heard = []

    @hookimpl
    def hfopt_after_run(self, record):
        self.heard.append(record)


def test_a_plugin_that_quits_in_a_lifecycle_hook_is_a_warning_and_the_others_are_called():
    plugins, before, after, warnings = Plugins(), Listens(), Listens(), []
    for name, hooks in (("before", before), ("quitter", Quits()), ("after", after)):
        plugins.register(PluginInfo(name, hooks=hooks))

    plugins.call_lifecycle("hfopt_after_run", warnings.append, record={"schema": 1})

    assert warnings == ["plugin quitter: hfopt_after_run failed: SystemExit: 7"]
    assert before.heard == after.heard == [{"schema": 1}]


def test_a_known_component_that_is_not_installed_answers_with_the_install_line():
    with pytest.raises(PluginError) as failure:
        Plugins().find("hfopt_passes", "onnxconversion")

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


@pytest.mark.parametrize("hook", sorted(UNAVAILABLE))
def test_nothing_that_a_distribution_offers_is_called_unavailable(hook):
    assert not {*UNAVAILABLE[hook]} & {*known(hook)}


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
