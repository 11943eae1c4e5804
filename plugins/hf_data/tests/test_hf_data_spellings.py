"""The ways of writing data: one meaning, and places in the user's own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfopt_data_containers.spellings import SpelledSection, normalize
from hfopt_hf_data.config import COMPONENTS

KNOWN = {component: {"ready": None, "planned": "comes later"} for component in COMPONENTS}


def spelled(known=KNOWN, **written):
    section = {key: value for key, value in written.items() if value is not None}
    return normalize(SpelledSection.model_validate_json(json.dumps(section)), known)


def problems(known=KNOWN, **written):
    found = spelled(known, **written).problems
    return [(".".join(map(str, problem.path)), problem.message, problem.hint) for problem in found]


# How an option can be written by component, each with the path that leads to it from the data config.
WAYS = {
    "component_kwargs": lambda component, name: ("params_config", "component_kwargs", component, name),
    "components": lambda component, name: ("components", component, "params", name),
    "params": lambda component, name: (f"{component}_config", "params", name),
    "beside": lambda component, name: (f"{component}_config", name),
}
NAMES = st.text("abcdefgh_", min_size=1, max_size=3)
VALUES = st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=2) | st.lists(st.integers(0, 2), max_size=2)
OPTIONS = st.dictionaries(st.tuples(st.sampled_from(sorted(COMPONENTS)), NAMES), VALUES, max_size=6)


def write(section, path, value):
    for part in path[:-1]:
        section = section.setdefault(part, {})
    section[path[-1]] = value


def read(section, path):
    for part in path:
        section = section[part]
    return section


@given(st.data())
def test_options_mean_the_same_however_they_are_written_and_know_where_that_was(data):
    options = data.draw(OPTIONS)
    section, one_way = {}, {}
    for (component, name), value in options.items():
        way = data.draw(st.sampled_from(sorted(WAYS)))
        write(section, WAYS[way](component, name), value)
        write(one_way, WAYS["component_kwargs"](component, name), value)

    result = spelled(**section)

    assert dict(result.params) == one_way.get("params_config", {})
    assert result.problems == ()
    for (component, name), value in options.items():
        at = result.written_at(("params_config", "component_kwargs", component, name))
        assert read(section, at) == value


@given(st.data())
def test_the_two_generations_may_repeat_and_must_not_contradict_each_other(data):
    (component, name), value = data.draw(st.tuples(st.tuples(st.sampled_from(sorted(COMPONENTS)), NAMES), VALUES))
    other = data.draw(VALUES)
    flat = lambda _, name: ("params_config", name)  # noqa: E731 - as WAYS has them
    older = data.draw(st.sampled_from([WAYS["component_kwargs"], WAYS["components"], flat]))(component, name)
    newer = data.draw(st.sampled_from([WAYS["params"], WAYS["beside"]]))(component, name)
    section = {}
    write(section, older, value)
    write(section, newer, other)

    found = problems(**section)

    if None in (value, other) or json.dumps(value) == json.dumps(other):
        assert found == []
    else:
        message = f"{'.'.join(older)} has another value"
        assert found == [(".".join(newer), message, "keep one of the two")]


@pytest.mark.parametrize(
    ("params_config", "expected"),
    [
        (
            {"n": 2, "component_kwargs": {"dataloader": {"n": 1}}},
            {"n": 2, "component_kwargs": {"dataloader": {"n": 1}}},
        ),
        ({"n": 2}, {"n": 2}),
        ({"n": None}, {"n": None, "component_kwargs": {"dataloader": {"n": 3}}}),
        ({}, {"component_kwargs": {"dataloader": {"n": 3}}}),
    ],
    ids=["component_kwargs", "params_config", "null states nothing", "components"],
)
def test_within_the_older_generation_the_first_that_states_an_option_wins(params_config, expected):
    result = spelled(params_config=params_config, components={"dataloader": {"params": {"n": 3}}})

    assert (result.params, result.problems) == (expected, ())


def test_what_is_written_in_no_other_way_is_left_as_it_is():
    params = {"n": 1, "component_kwargs": {"no such": [1], "dataloader": {"m": None}}}

    result = spelled(known={}, params_config=params, dataloader_config=None)

    assert (result.params, result.problems) == (params, ())
    assert result.written_at(("params_config", "m")) == ("params_config", "m")


@pytest.mark.parametrize("nested", [3, [], "x", {"dataloader": [1]}])
def test_a_malformed_component_kwargs_is_left_for_its_container_to_refuse(nested):
    result = spelled(params_config={"component_kwargs": nested}, dataloader_config={"n": 1})

    assert (result.params, result.problems) == ({"component_kwargs": nested}, ())


def test_what_the_user_did_not_write_has_the_place_of_the_data_config():
    result = spelled(load_dataset_config={"data": "x", "params": {"split": [1]}})
    loading = ("params_config", "component_kwargs", "load_dataset")

    assert result.written_at(("params_config", "task")) == result.written_at(("params_config",)) == ()
    assert result.written_at((*loading, "data")) == ("load_dataset_config", "data")
    assert result.written_at((*loading, "split", 0)) == ("load_dataset_config", "params", "split", 0)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"dataloader_config": {"type": "Ready"}, "components": {"dataloader": {"type": None}}}, []),
        ({"dataloader_config": {"type": "planned"}}, [("dataloader_config.type", "comes later", None)]),
        (
            {"components": {"dataloader": {"type": "raedy"}}},
            [
                (
                    "components.dataloader.type",
                    "no dataloader component named 'raedy'; there is ready",
                    "did you mean 'ready'?",
                )
            ],
        ),
        (
            {"components": {"dataloader": {"type": "ready"}}, "dataloader_config": {"type": "planned"}},
            [
                (
                    "dataloader_config.type",
                    "components.dataloader.type has another value",
                    "keep one of the two",
                )
            ],
        ),
    ],
)
def test_a_type_is_one_that_the_container_has(written, expected):
    assert problems(**written) == expected
