"""A system whose environment is another one: what is found there is never taken for what was found here."""

from __future__ import annotations

from pathlib import Path

import pytest

FAR = str(Path(__file__).with_name("far.py"))


@pytest.fixture
def far(project):
    """A project whose target has packages of its own."""
    (project.folder / "packages").mkdir()
    project.config["systems"] = {"far": {"type": "Far", "config": {"packages": str(project.folder / "packages")}}}
    return project


def installed(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def target(project, name: str) -> None:
    project.config["engine"]["target"] = name


def keys(project):
    return {step["name"]: step["key"] for step in project.candidate["steps"]}


def test_a_target_with_the_same_packages_shares_what_was_found_here(far):
    assert far.run("-p", FAR).returncode == 0
    target(far, "far")

    done = far.run("-p", FAR)

    assert done.returncode == 0, done.stderr
    assert all(far.cached().values())


def test_a_target_with_another_version_of_what_counts_shares_no_figure(far):
    assert far.run("-p", FAR).returncode == 0
    before = keys(far)
    installed(far.folder / "packages", "numpy", "1.26.4")
    target(far, "far")

    done = far.run("-p", FAR)

    assert done.returncode == 0, done.stderr
    again = {name for name, cached in far.cached().items() if not cached}
    assert again == {"predict input_model", "predict third", "score third"}
    assert all(keys(far)[name] != before[name] for name in again)


def test_another_release_of_hfopt_on_the_far_side_is_a_sentence(far):
    installed(far.folder / "packages", "hfopt", "99.0")
    target(far, "far")

    done = far.run("-p", FAR)

    assert done.returncode == 3
    assert " is needed where the step runs; found: 99.0" in done.stderr


def test_requests_are_made_from_this_machine_whatever_is_called_local_system(far):
    place = far.folder / "far"
    place.mkdir()
    (place / "version").write_text("1")
    (place / "1.json").write_text('{"slope": 0.5}')
    far.config["input_model"]["config"] = {"place": "far"}
    far.config["systems"] = {"local_system": far.config["systems"]["far"]}
    installed(far.folder / "packages", "numpy", "1.26.4")

    done = far.run("-p", FAR)

    assert done.returncode == 0, done.stderr
    fetched = next(step for step in far.candidate["steps"] if step["name"].startswith("fetch"))
    assert fetched["seconds"] is not None
    log = (far.folder / "hfopt-output" / "hfopt.log").read_text()
    assert "fetch far: begins" in log


AWAY = """
import os

from hfopt import Component, Config, Pass, PassResult, hookimpl


class AwayConfig(Config):
    again: bool = False


class Away(Pass):
    Config = AwayConfig
    accepts = frozenset({"Line"})
    host = {"type": "Far", "config": {"packages": "PACKAGES"}}

    def run(self, model, context):
        return PassResult(model, {"summary": f"ran beside {os.environ.get('PYTHONPATH')}"})


@hookimpl
def hfopt_passes():
    return [Component("Away", f"{__name__}:Away", "does nothing, elsewhere")]
"""


@pytest.fixture
def away(project, tmp_path):
    """Runs a config whose only pass says where it runs."""
    (tmp_path / "away.py").write_text(AWAY.replace("PACKAGES", str(tmp_path)))

    def run(*arguments, **more):
        project.config["passes"] = {"only": {"type": "Away", **more}}
        return project.run("-p", str(tmp_path / "away.py"), *arguments)

    return run


def test_a_pass_runs_on_the_system_that_it_brings_unless_the_config_names_another(away, tmp_path):
    brought, named = away("-p", FAR), away("-p", FAR, host="local_system", config={"again": True})

    assert (brought.returncode, named.returncode) == (0, 0)
    assert f"ran beside {tmp_path}\n" in brought.stderr
    assert "ran beside None\n" in named.stderr


def test_a_system_that_a_pass_brings_and_that_is_not_there_is_told_at_its_host(away):
    done = away()

    assert done.returncode == 2
    assert ": passes.only.host.type: no system named 'Far'" in done.stderr
