"""Which options go together."""

from __future__ import annotations

import pytest

from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_python_environment.options import PythonEnvironmentConfig


def mistakes(folder, **options):
    problems = []
    validate(PythonEnvironmentConfig, options, ("systems", "s", "config"), problems, ConfigContext(folder))
    return [(problem.path[3:], problem.message) for problem in problems]


def test_the_environment_of_a_path_is_used_wherever_it_points(tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").touch()

    assert all(not mistakes(tmp_path, python_environment_path=each) for each in ("venv", "venv/bin", "venv/bin/python"))


def test_olives_name_for_a_managed_environment_does_too(tmp_path):
    assert PythonEnvironmentConfig(olive_managed_env=True).is_managed
    assert PythonEnvironmentConfig(managed=True).is_managed
    assert mistakes(tmp_path, olive_managed_env=True, requirements=["onnxruntime==1.30.0"]) == []


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ({}, "python_environment_path", "is required, unless managed is true"),
        (
            {"managed": True, "python_environment_path": "."},
            "python_environment_path",
            "is of no use beside managed: true, which makes another",
        ),
        (
            {"python_environment_path": ".", "requirements": ["numpy"]},
            "requirements",
            "is only for managed: true: nothing is installed into an environment of yours",
        ),
        (
            {"managed": True, "lock": "lock.txt", "requirements": ["numpy"]},
            "requirements",
            "is of no use beside lock, which is all that is installed",
        ),
        (
            {"managed": True, "python": "3.x"},
            "python",
            "'3.x' is neither a version of Python, such as 3.12, nor a file",
        ),
        ({"python_environment_path": "nowhere"}, "python_environment_path", "no such file or folder: nowhere"),
    ],
)
def test_a_mistake_is_told_at_its_option(tmp_path, options, place, message):
    (tmp_path / "lock.txt").touch()

    assert mistakes(tmp_path, **options) == [((place,), message)]


def test_a_requirement_that_is_none_is_told(tmp_path):
    ((place, message),) = mistakes(tmp_path, managed=True, requirements=["--index-url=https://example.org"])

    assert place == ("requirements", 0)
    assert message.startswith("'--index-url=https://example.org' is no requirement: ")


def test_a_variable_that_looks_like_a_credential_is_refused(tmp_path):
    told = mistakes(
        tmp_path, python_environment_path=".", environment_variables={"MY_TOKEN": "abc", "OMP_DYNAMIC": "0"}
    )

    assert told == [
        (
            ("environment_variables",),
            "MY_TOKEN looks like a credential, and run.json has a copy of the config: "
            "set it where hfopt runs, and name it in HFOPT_KEEP",
        )
    ]
