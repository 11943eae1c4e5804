"""What is said of a component's class that can't be used, and that it stops nothing else."""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from pkgutil import resolve_name

import pytest

from hfopt import Config, DataContainer, MetricBackend, Pass, System
from hfopt.cli.main import main
from hfopt.discovery.checks import component_faults
from hfopt.discovery.plugins import KINDS

RUN = "run(self, model, context)"
A_CONFIG = "Config, which must be a subclass of hfopt.api.config.Config"
ACCEPTS = "accepts, which must be frozenset[str]"
NO_CONFIG, NO_ACCEPTS = f"has no {A_CONFIG}", f"has no {ACCEPTS}"
NOT_RUN = f"which must be {RUN}"


class Options(Config):
    """None."""


class Good(Pass):
    Config = Options
    accepts = frozenset({"Line"})

    def run(self, model, context):
        """Nothing."""


def variant(**changes):
    return type("Variant", (Good,), changes)


def without_self(model, context):
    """Nothing."""


PASSES = {
    "no class": (5, ["is not a class"]),
    "nothing of a pass": (
        int,
        [
            "is not a subclass of hfopt.api.passes.Pass",
            NO_CONFIG,
            NO_ACCEPTS,
            "lacks the method requires(self, model)",
            "lacks the method forecast(self, before)",
            f"lacks the method {RUN}",
            "lacks the method assembled(self, result, model, context)",
        ],
    ),
    "bare": (type("Bare", (Pass,), {}), [NO_CONFIG, NO_ACCEPTS, f"lacks the method {RUN}"]),
    "plain Config": (variant(Config=int), [f"has <class 'int'> as {A_CONFIG}"]),
    "Config's instance": (variant(Config=Options()), [f"has Options() as {A_CONFIG}"]),
    "accepts one name": (variant(accepts="Line"), [f"has 'Line' as {ACCEPTS}"]),
    "accepts numbers": (variant(accepts={1}), [f"has {{1}} as {ACCEPTS}"]),
    "accepts a set": (variant(accepts={"Line"}), []),
    "produces a list": (variant(produces=["Line"]), ["has ['Line'] as produces, which must be str | None"]),
    "run without context": (variant(run=lambda self, model: None), [f"has run(self, model), {NOT_RUN}"]),
    "run with more": (
        variant(run=lambda self, model, context, more: None),
        [f"has run(self, model, context, more), {NOT_RUN}"],
    ),
    "run with an option": (variant(run=lambda self, model, context, more=1, *rest, **named: None), []),
    "run with whatever": (variant(run=lambda *whatever: None), []),
    "run is no method": (variant(run=3), [f"has run = 3, {NOT_RUN}"]),
    "static run": (variant(run=staticmethod(without_self)), [f"has @staticmethod run(model, context), {NOT_RUN}"]),
    "made without options": (variant(__init__=lambda self: None), ["has __init__(), which must be __init__(config)"]),
    "all at once": (
        variant(Config=None, accepts=[], run=lambda self: None),
        [
            f"has None as {A_CONFIG}",
            f"has [] as {ACCEPTS}",
            f"has run(self), {NOT_RUN}",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_is_told_all_that_is_wrong_with_it(name):
    target, faults = PASSES[name]

    assert component_faults(target, Pass) == faults


class Backend(MetricBackend):
    Config = Options

    def __init__(self, config):
        """One argument too many: a backend is made without any."""

    def statistic(self, name, config):
        """Nothing."""


class Container(DataContainer):
    Config = Options
    Section = Options

    def read(self, section, defaults):
        """Not a classmethod."""

    def prepare(self, context):
        """Nothing."""

    def open(self, folder):
        """Nothing."""


class Halfway(Good):
    @abstractmethod
    def more(self):
        """For its own subclasses."""


OTHERS = {
    Backend: (MetricBackend, ["has __init__(config), which must be __init__()"]),
    Container: (
        DataContainer,
        [
            f"has {Options!r} as Section, which must be a subclass of hfopt.api.data.DataSection",
            "has read(self, section, defaults), which must be @classmethod read(cls, section, defaults)",
        ],
    ),
    Halfway: (Pass, ["lacks the method more"]),
}


@pytest.mark.parametrize("target", OTHERS)
def test_other_kinds_are_checked_by_their_own_base_classes(target):
    base, faults = OTHERS[target]

    assert component_faults(target, base) == faults


@pytest.mark.parametrize("hook", KINDS)
def test_of_every_kind_a_class_that_defines_nothing_is_told_what_it_lacks(hook):
    base = resolve_name(KINDS[hook].base)

    faults = component_faults(type("Bare", (base,), {}), base)

    told = [fault for fault in faults if fault.startswith("has no Config, which must be a subclass of hfopt.api.")]
    assert bool(told) is (hook not in ("hfopt_commands", "hfopt_config_dialects", "hfopt_token_providers"))
    lacking = [
        fault.removeprefix("lacks the method ").removeprefix("@classmethod ").removeprefix("@staticmethod ")
        for fault in faults
    ]
    methods = [fault.partition("(")[0] for fault in lacking if fault.startswith(tuple(base.__abstractmethods__))]
    assert {*methods} == base.__abstractmethods__


def test_a_system_has_the_options_of_every_system():
    target = type("Bare", (System,), {"Config": Options})

    assert "Config, which must be a subclass of hfopt.api.systems.SystemConfig" in component_faults(target, System)[0]


MIXED = """
from hfopt import Component, Config, Pass, PassResult, hookimpl

@hookimpl
def hfopt_passes():
    names = ("Fine", "Broken", "Quits", "Absent", "Heavy")
    return [Component(name, f"{name.lower()}_module:{name}", "") for name in names]
"""
FINE = """
from hfopt import Config, Pass

class Fine(Pass):
    Config, accepts = Config, frozenset()
    def run(self, model, context): ...
"""
MODULES = {
    "fine_module": FINE,
    "broken_module": "from hfopt import Pass\nclass Broken(Pass):\n    def run(self, model): ...",
    "quits_module": "raise SystemExit(3)",
    "heavy_module": f"import tensorflow\n{FINE.replace('Fine', 'Heavy')}",
    "tensorflow": "",
}
BROKEN = f"broken_module:Broken {NO_CONFIG}; {NO_ACCEPTS}; has run(self, model), {NOT_RUN}"
PROBLEMS = {
    "Fine": None,
    "Broken": BROKEN,
    "Quits": "SystemExit: 3",
    "Absent": "No module named 'absent_module'",
    "Heavy": None,
}


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """A plugin of which some components can be used."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "mixed.py").write_text(MIXED)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mixed.py"
    for name in MODULES:
        sys.modules.pop(name, None)


def test_a_bad_component_is_listed_with_its_whole_reason_and_the_others_are_as_they_were(mixed, capsys):
    assert main(["plugins", "-p", str(mixed), "--json"]) == 0
    (listed,) = (plugin for plugin in json.loads(capsys.readouterr().out) if plugin["name"] == "mixed")
    assert {each["name"]: each["problem"] for each in listed["components"]} == PROBLEMS

    assert main(["plugins", "-p", str(mixed)]) == 0
    lines = capsys.readouterr().out.splitlines()
    broken = next(number for number, line in enumerate(lines) if line.startswith("  pass            Broken"))
    assert lines[broken + 1] == f"    NOT LOADED: {BROKEN}"


def test_a_component_that_imports_a_framework_at_its_top_gets_a_notice(mixed, capsys):
    main(["plugins", "-p", str(mixed)])

    assert (
        capsys.readouterr().out.splitlines()[-1]
        == "    note: imports tensorflow at its top: import it where it is used"
    )


def test_a_config_that_names_a_bad_component_exits_with_3_and_one_that_does_not_is_valid(project, mixed):
    project.config["passes"]["bad"] = {"type": "Broken"}
    done = project.run("-p", str(mixed), command="validate")
    assert (done.returncode, done.stderr) == (
        3,
        f"hfopt: config.json:61: passes.bad.type: pass 'Broken' of mixed ({mixed}) is NOT LOADED: {BROKEN}\n",
    )

    del project.config["passes"]["bad"]
    assert project.run("-p", str(mixed), command="validate").returncode == 0
