"""A key tells the whole truth: it changes with whatever takes part in its step, and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfopt.config.document import read
from hfopt.config.resolve import resolve
from hfopt.discovery.plugins import Plugins
from hfopt.planning.builder import Builder
from hfopt.planning.identity import identify

MACHINE = {"cpu": "a CPU", "flags": "", "threads": 2}
TAKES_PART = {
    "input_model": {"Line"},
    "data points": {"Points"},
    "first": {"Scale", "Line"},
    "second": {"Scale", "Line"},
    "third": {"Retune", "Line"},
    "predict input_model": {"Line", "Points"},
    "score input_model": {"toy_metrics"},
    "predict third": {"Line", "Points"},
    "score third": {"toy_metrics"},
    "measure third": {"Line", "Points"},
}
"""Which components take part in which step of the toy project, itself."""


@pytest.fixture(scope="module")
def steps(make_project):
    """The steps of the toy project, with a latency metric."""
    project = make_project()
    latency = {"name": "latency", "type": "latency", "data_config": "points"}
    project.config["evaluators"]["e"]["metrics"].append(latency)
    project.write()
    plugins = Plugins.discover([Path(project.plugin)])
    plan = Builder(resolve(read(project.folder / "config.json"), plugins), plugins).plan({})
    return [step for branch in plan.branches for step in branch.steps()]


@pytest.fixture(scope="module")
def components(steps):
    return sorted({each.full_name for step in steps for each in step.needs})


def keys(steps, versions, machine=MACHINE, leaf="d"):
    known = {}
    leaves = {path: f"{leaf}:{path.name}" for step in steps for path in step.paths}
    for step in steps:
        known[step] = identify(step, known, leaves, {}, versions, machine)
    return {step: known[step].key for step in steps}


def with_parents(step):
    return {step}.union(*(with_parents(parent) for parent in step.inputs.values()))


def test_every_step_names_the_components_that_take_part_in_it(steps):
    assert {step.name: {each.component.name for each in step.needs} for step in steps} == TAKES_PART


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_key_changes_with_the_version_of_a_component_that_takes_part_and_of_no_other(steps, components, data):
    distributions = st.dictionaries(st.sampled_from(["numpy", "torch", "acme"]), st.text(min_size=1), min_size=1)
    versions = {name: data.draw(distributions) for name in components}
    changed = data.draw(st.sampled_from(components))
    package = data.draw(st.sampled_from(sorted(versions[changed])))
    other = {**versions, changed: {**versions[changed], package: versions[changed][package] + "+"}}

    before, after = keys(steps, versions), keys(steps, other)

    short = changed.partition(":")[2]
    affected = {step for step in steps if any(short in TAKES_PART[each.name] for each in with_parents(step))}
    assert {step.name for step in steps if before[step] != after[step]} == {step.name for step in affected}


def test_a_key_changes_with_the_seed(steps, components):
    versions = {name: {} for name in components}
    known, seeded = {}, {}
    for step in steps:
        known[step] = identify(step, known, dict.fromkeys(step.paths, "d"), {}, versions, MACHINE)
        assert known[step].recipe["seed"] == step.seed
        other = type(step)(**{**vars(step), "seed": 1})
        seeded[step] = identify(other, known, dict.fromkeys(step.paths, "d"), {}, versions, MACHINE)

    assert all(known[step].key != seeded[step].key for step in steps)


def test_only_timings_are_keyed_by_the_machine(steps, components):
    versions = {name: {} for name in components}
    before, after = keys(steps, versions), keys(steps, versions, {**MACHINE, "threads": 1})

    assert [step.name for step in steps if before[step] != after[step]] == ["measure third"]


def test_a_recipe_holds_no_path(steps, components):
    known = {}
    for step in steps:
        leaves = dict.fromkeys(step.paths, "d")
        known[step] = identify(step, known, leaves, {}, {name: {} for name in components}, MACHINE)
        assert all(str(path) not in json.dumps(known[step].recipe) for path in step.paths)
