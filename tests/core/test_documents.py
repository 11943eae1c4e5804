"""Config files: values, places, and what is said of a file that can't be read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfopt.base.errors import ConfigError, HfoptError, Problem, UsageError
from hfopt.config.document import read

JSON = """{
  // where the model lies
  "input_model": {"type": "Line", /* inline */ "config": {"model_path": "http://x//y"}},
\t"passes": {
    "first": {"type": "Scale",},
  },
}
"""
YAML = "passes:\n  first:\n    type: Scale\n    config: {factor: 1e-4}\nlist:\n  - name: a\n  - name: b\n"
TOML = '[passes.first]\ntype = "Scale"\n\n[passes.first.config]\nfactor = 1e-4\n'


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_json_may_have_comments_trailing_commas_tabs_and_a_byte_order_mark(tmp_path):
    document = read(write(tmp_path, "c.json", "\ufeff" + JSON))

    assert document.value == {
        "input_model": {"type": "Line", "config": {"model_path": "http://x//y"}},
        "passes": {"first": {"type": "Scale"}},
    }


@pytest.mark.parametrize(
    ("name", "text", "path", "line"),
    [
        ("c.json", JSON, ("input_model", "config", "model_path"), 3),
        ("c.json", JSON, ("passes", "first", "type"), 5),
        ("c.json", JSON, ("passes", "first", "nothing"), 5),
        ("c.yaml", YAML, ("passes", "first", "config", "factor"), 4),
        ("c.yaml", YAML, ("list", 1, "name"), 7),
        ("c.toml", TOML, ("passes", "first", "config", "factor"), 5),
        ("c.toml", TOML, ("passes", "first", "type"), 2),
    ],
)
def test_a_path_is_found_at_its_line(tmp_path, name, text, path, line):
    assert read(write(tmp_path, name, text)).line(path) == line


def test_numbers_mean_the_same_in_every_format(tmp_path):
    values = [read(write(tmp_path, name, text)).value for name, text in (("c.yaml", YAML), ("c.toml", TOML))]

    assert [value["passes"]["first"]["config"]["factor"] for value in values] == [1e-4, 1e-4]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", '{\n "a": 1\n "b": 2}', "c.json:3: Expecting ',' delimiter (column 2)"),
        ("c.json", "", "c.json: is empty"),
        ("c.json", '{"a": 1, "a": 2}', "c.json:1: key 'a' stands twice in one object"),
        ("c.json", '{"b": [{"a": 1,\n\t"c": {},\n"a": 2}]}', "c.json:3: key 'a' stands twice in one object"),
        ("c.json", '{"a": 1,\n"a": 2, "b": {"c": 1,\n"c": 2}}', "c.json:2: key 'a' stands twice in one object"),
        ("c.yaml", "a: 1\nb: 2\na: 3\n", "c.yaml:3: key 'a' stands twice in one object"),
        ("c.yaml", "a: {b: 1,\n b: 2}\nc: 1\n", "c.yaml:2: key 'b' stands twice in one object"),
        ("c.yaml", "? [a]\n: 1\n", "c.yaml:1: a key must be text, not a list, an object or an alias"),
        ("c.yaml", "a: [1\nb: 2", "c.yaml:2: did not find expected ',' or ']'"),
        ("c.toml", "a = 1\na = 2\n", "c.toml: Cannot overwrite a value (at line 2, column 6)"),
    ],
)
def test_a_file_that_is_not_of_its_format_says_where(tmp_path, name, text, message):
    with pytest.raises(ConfigError) as failure:
        read(write(tmp_path, name, text))

    assert str(failure.value) == message
    assert failure.value.exit_code == 2


def test_nesting_too_deep_for_a_parser_is_an_error_not_a_crash(tmp_path):
    for name in ("c.json", "c.yaml", "c.toml"):
        with pytest.raises(HfoptError):
            read(write(tmp_path, name, ("a = " if name == "c.toml" else "") + "[" * 100_000))


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json: no such file"):
        read(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"c\.ini: a config is a \.json, \.yaml or \.toml file"):
        read(write(tmp_path, "c.ini", ""))
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8 text"):
        read(tmp_path / "c.json")


def test_problems_come_in_the_order_of_the_file_with_place_fact_and_hint(tmp_path):
    document = read(write(tmp_path, "c.json", JSON))
    problems = [Problem(("passes", "first", "type"), "is odd"), Problem(("input_model",), "is wrong", "do better")]

    assert str(document.error(problems)) == (
        "c.json:3: input_model: is wrong\n  hint: do better\nc.json:5: passes.first.type: is odd"
    )


MERGED = """
base: &base {factor: 2.0}
passes:
  first: {config: &first {<<: *base, factor: 3.0}}
second: {<<: *first, name: x}
"""


def test_merged_yaml_may_override_and_keeps_its_own_place(tmp_path):
    document = read(write(tmp_path, "c.yaml", MERGED))

    assert document.value["passes"]["first"]["config"] == {"factor": 3.0}
    assert document.value["second"] == {"factor": 3.0, "name": "x"}
    assert document.line(("passes", "first", "config", "factor")) == 4


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(
    value=JSON_VALUES, indent=st.sampled_from([None, 1, "\t"]), comment=st.sampled_from(["// x\n", "/* , ] */", "\t"])
)
def test_json_with_comments_between_its_lines_reads_as_the_value_that_it_holds(
    tmp_path_factory, value, indent, comment
):
    text = json.dumps({"value": value}, indent=indent)
    commented = comment + text.replace("\n", f"\n{comment}") if indent else comment + text
    file = tmp_path_factory.getbasetemp() / "hypothesis.json"
    file.write_text(commented)

    assert read(file).value == {"value": value}
