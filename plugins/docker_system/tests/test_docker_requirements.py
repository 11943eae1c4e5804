"""What hfopt's own image is given."""

from __future__ import annotations

import json
from importlib.metadata import version

from packaging.requirements import Requirement
from packaging.version import Version

from hfopt.api.requirements import requirements
from hfopt_docker_system.config import DockerConfig
from hfopt_docker_system.image import dockerfile, own

PLUGINS = ("hfopt", "hfopt-hf-model-loader", "hfopt-onnx-conversion", "hfopt-ort-passes")


def test_the_image_has_what_hfopt_and_its_plugins_depend_on_in_the_versions_that_are_here():
    found = {each.name: str(each.specifier) for each in map(Requirement, requirements(PLUGINS, "cpu"))}

    for name in ("pydantic", "onnx", "onnxruntime", "transformers"):
        assert found[name] == f"=={version(name)}"
    assert found["torch"] == f"=={Version(version('torch')).public}"


def test_neither_hfopt_nor_what_other_plugins_need_is_in_it():
    names = {Requirement(each).name for each in requirements(PLUGINS, "cpu")}

    assert not [name for name in names if name.startswith("hfopt")]
    assert not names & {"docker", "optuna", "evaluate"}


def test_build_arguments_are_seen_by_pip():
    assert dockerfile("python:3.11-slim", ["PIP_INDEX_URL"]) == (
        "FROM python:3.11-slim\n"
        "ARG PIP_INDEX_URL\n"
        "COPY requirements.txt /hfopt/\n"
        "RUN python3 -m pip install --no-cache-dir -r /hfopt/requirements.txt\n"
    )


def test_what_an_image_is_made_of_is_in_its_name(tmp_path):
    (tmp_path / "more.txt").write_text("seaborn\n")
    configs = [
        {},
        {"base_image": "python:3.12-slim"},
        {"requirements_file": str(tmp_path / "more.txt")},
        {"local_docker_config": {"build_args": {"PIP_INDEX_URL": "http://localhost"}}},
        {"accelerators": [{"device": "gpu"}]},
    ]

    names = {own(DockerConfig.model_validate_json(json.dumps(config)), PLUGINS)[0] for config in configs}

    assert len(names) == len(configs)
    assert own(DockerConfig(), PLUGINS)[0] in names
