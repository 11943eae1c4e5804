"""What no config may hold, in whatever format, and what is done with one that is far too large."""

from __future__ import annotations

import json
import os
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hfopt
from hfopt.base.files import path_of
from hfopt.base.values import MOST_LEVELS, MOST_VALUES, TooMuch, plain
from hfopt.cli.main import main
from hfopt.config.document import TOLD, read

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def refusal(source):
    with pytest.raises(hfopt.HfoptError) as failure:
        read(source)
    assert failure.value.exit_code == 2
    return str(failure.value)


@given(value=ANYTHING)
def test_what_a_config_holds_is_json_or_told_with_its_place(value):
    faults = {}

    copied = plain(value, faults)

    if not faults:
        text = json.dumps(copied, allow_nan=False)
        assert json.loads(text) == copied
        text.encode()


@given(number=st.integers() | st.floats())
def test_a_number_is_finite_and_an_integer_has_64_bits(number):
    faults = {}
    plain({"a": [number]}, faults)

    fits = -(2**63) <= number < 2**64 if isinstance(number, int) else isfinite(number)
    assert set(faults) == (set() if fits else {("a", 0)})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", '{"a": [1,\n1e999]}', "c.json:2: a[1]: must be a finite number, and an integer has 64 bits at most"),
        ("c.yaml", "a: 1\nb: .nan\n", "c.yaml:2: b: must be a finite number, and an integer has 64 bits at most"),
        ("c.toml", "a = 1\nb = -inf\n", "c.toml:2: b: must be a finite number, and an integer has 64 bits at most"),
        (
            "c.toml",
            "\n[t]\na = 2020-01-01\n",
            "c.toml:3: t.a: is a date, which JSON does not have: write it as a string",
        ),
        ("c.json", "\n" + "1" * 5_000, "c.json:2: a number has 1,000 digits or more"),
        ("c.json", '{\n"a\\u0000": 1}', "c.json:2: a\\x00: a key is at most 255 characters of text, on one line"),
        ("c.json", '{"a":\n"\\ud800"}', "c.json:1: a: holds the character '\\ud800', which is no text"),
        (
            "c.yaml",
            "a: 1\nb: !!python/name:os.system\n",
            "c.yaml:2: a value with the tag tag:yaml.org,2002:python/name:",
        ),
        ("c.yaml", "a: !!int ''\n", "c.yaml:1: a value with the tag tag:yaml.org,2002:int is not read"),
        ("c.yaml", "a: 1\n? [a]\n: c\n", "c.yaml:2: a key must be text, not a list, an object or an alias"),
        ("c.yaml", "a: &a\n- *a\n", "c.yaml:2: *a stands for nothing before it, or for what it is in"),
        ("c.yaml", "a: 1\n---\nb: 1\n", "c.yaml:2: holds several documents"),
        ("c.yaml", "a: &a [1, 2]\nb: {<<: *a}\n", "c.yaml:2: << merges objects only"),
    ],
)
def test_what_json_does_not_have_is_refused_at_its_line(tmp_path, name, text, message):
    assert message in refusal(write(tmp_path, name, text))


def test_keys_and_dates_of_yaml_are_text_as_it_is_written(tmp_path):
    text = "1: a\non: b\nnull: c\nday: 2020-01-01\nsize: 1:30\nword: !!str 13\n"

    value = {"1": "a", "on": "b", "null": "c", "day": "2020-01-01", "size": "1:30", "word": "13"}
    assert read(write(tmp_path, "c.yaml", text)).value == value


def test_aliases_count_as_often_as_they_stand():
    row = ["x"] * 10
    for _ in range(6):
        row = [row] * 10

    with pytest.raises(TooMuch, match="more than 20,000 values"):
        plain(row, {})
    with pytest.raises(TooMuch, match="characters"):
        plain(["x" * 100_000] * 6, {})


def test_a_dictionary_that_holds_itself_is_refused():
    config = {}
    config["passes"] = config

    assert refusal(config) == f"is nested deeper than {MOST_LEVELS} levels, or holds itself"


def test_as_many_values_as_a_config_may_hold_are_read(tmp_path):
    most = {f"k{number}": number for number in range(MOST_VALUES - 1)}

    assert read(write(tmp_path, "c.json", json.dumps(most))).value == most
    assert refusal(write(tmp_path, "c.json", json.dumps(most | {"one": {"more": 1}}))).startswith(
        "c.json:1: holds more"
    )


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    assert "is larger than 500 kB" in refusal(write(tmp_path, "c.yaml", "a: 1\n" * 200_000))


def test_of_many_mistakes_the_first_are_told_and_the_others_counted(tmp_path, capsys):
    config = {"input_model": {"type": "X"}, "passes": {f"p{n}": {"tpye": "x"} for n in range(100)}}

    assert main(["validate", str(write(tmp_path, "c.json", json.dumps(config, indent=1)))]) == 2

    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
    assert len(told) == TOLD + 1
    assert told[-1].startswith("and ")
    assert told[-1].endswith(" more")


def test_a_section_of_very_many_entries_is_refused(project):
    project.config["passes"] = {f"p{number}": {"type": "Scale"} for number in range(400)}

    assert "passes: holds 400 entries, more than the 300 that are read" in project.run(command="validate").stderr


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")

    assert refusal(tmp_path / "pipe.json").endswith("pipe.json is a named pipe, not a regular file")
    assert refusal(tmp_path / "zero.yaml").endswith("zero.yaml is a device, not a regular file")
    assert "can't be read: Too many levels of symbolic links" in refusal(tmp_path / "loop.toml")


@pytest.mark.parametrize(
    ("text", "reason"), [("a" * 256, "too long"), ("a/" * 2_100, "too long"), ("\0", "NUL"), ("\udcff", "not UTF-8")]
)
def test_a_path_that_no_file_can_have_is_refused(text, reason):
    with pytest.raises(hfopt.UsageError, match=reason):
        path_of(text)


@pytest.mark.parametrize("option", ["cache_dir", "output_dir"])
def test_a_folder_that_can_not_be_is_a_mistake_in_the_config(project, option):
    project.config["engine"][option] = "a" * 256
    done = project.run()

    assert done.returncode == 2
    assert f"engine.{option}: is too long for a path" in done.stderr
