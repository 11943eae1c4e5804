"""Functions of users' scripts: found, called, forgotten."""

from __future__ import annotations

import sys

import pytest

from hfopt import PreconditionFailed
from hfopt.api.scripts import forget, load_function


@pytest.fixture(autouse=True)
def forgotten():
    yield
    forget()


def test_a_function_finds_the_names_that_it_is_given_and_what_lies_in_its_folder(tmp_path):
    (tmp_path / "helper_of_one.py").write_text("FACTOR = 3\n")
    (tmp_path / "s.py").write_text("import helper_of_one\ndef f(x: Model):\n    return helper_of_one.FACTOR * x\n")

    assert load_function(tmp_path / "s.py", "f", folder=tmp_path, names={"Model": int})(2) == 6


def test_after_a_step_another_folder_may_have_a_helper_of_that_name(tmp_path):
    for name, factor in (("first", 3), ("second", 5)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "helper_of_two.py").write_text(f"FACTOR = {factor}\n")
        (folder / "s.py").write_text(f"import helper_of_two\ndef f():\n    return helper_of_two.FACTOR  # {name}\n")
        assert load_function(folder / "s.py", "f", folder=folder, names={})() == factor
        forget()
    assert not [place for place in sys.path if place.startswith(str(tmp_path))]


def test_a_helper_that_was_edited_between_steps_is_read_again(tmp_path):
    (tmp_path / "s.py").write_text("import helper_of_three\ndef f():\n    return helper_of_three.FACTOR\n")
    for factor in (3, 55):  # of other lengths: Python tells edits within a second by length
        (tmp_path / "helper_of_three.py").write_text(f"FACTOR = {factor}\n")
        assert load_function(tmp_path / "s.py", "f", folder=tmp_path, names={})() == factor
        forget()


def test_what_is_forgotten_lies_right_in_the_folder_and_not_in_an_environment_below_it(tmp_path):
    packages = tmp_path / ".venv" / "lib"
    for file in (packages / "installed_one.py", tmp_path / "space" / "inner.py", tmp_path / "pack" / "__init__.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    text = f"import sys\nsys.path.insert(0, {str(packages)!r})\nimport installed_one, space.inner, pack\n"
    (tmp_path / "s.py").write_text(f"{text}sys.path.remove({str(packages)!r})\ndef f():\n    pass\n")
    load_function(tmp_path / "s.py", "f", folder=tmp_path, names={})

    forget()

    left = {"installed_one", "space", "space.inner", "pack"} & sys.modules.keys()
    del sys.modules["installed_one"]
    assert left == {"installed_one"}


def test_a_script_may_take_its_folder_off_the_import_path(tmp_path):
    (tmp_path / "s.py").write_text(f"import sys\nsys.path.remove({str(tmp_path)!r})\ndef f():\n    return 1\n")

    assert load_function(tmp_path / "s.py", "f", folder=tmp_path, names={})() == 1
    forget()


def test_an_edited_script_is_read_again(tmp_path):
    for value in (1, 2):
        (tmp_path / "s.py").write_text(f"def f():\n    return {value}\n")
        assert load_function(tmp_path / "s.py", "f", names={})() == value


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("def g():\n    pass\n", "{s} has no function 'f'", "it has g"),
        ("x = (\n", "{s}, line 1: can't be loaded: SyntaxError: '(' was never closed (s.py, line 1)\n    x = (", None),
        ("def f():\n    raise SystemExit(3)\n", "{s}, line 2: f fails: SystemExit: 3\n    raise SystemExit(3)", None),
        (
            "import beside\ndef f():\n    pass\n",
            "{s}, line 1: can't be loaded: ModuleNotFoundError: No module named 'beside'\n    import beside",
            "name its folder in script_dir: then it can import what lies there, and that counts too",
        ),
    ],
)
def test_a_failure_names_the_line(tmp_path, text, message, hint):
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "s.py").write_text(text)

    with pytest.raises(PreconditionFailed) as failed:
        load_function(tmp_path / "s.py", "f", names={})()

    assert failed.value.message == message.format(s=tmp_path / "s.py")
    assert failed.value.hint == hint
