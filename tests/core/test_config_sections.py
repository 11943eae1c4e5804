"""A plugin owns a key at the top of a config, and kinds of places that a path may lie in."""

from __future__ import annotations

import pytest

import hfopt
from hfopt.config.document import read
from hfopt.config.resolve import resolve
from hfopt.discovery.plugins import Plugins

DEPOTS = """
import os, shutil
from pathlib import Path
from pydantic import Field, model_validator
from hfopt import Component, Config, PreconditionFailed, Resolved, Resource, hookimpl
from hfopt.api.config import ConfigContext, ConfigSection

@hookimpl
def hfopt_config_sections():
    return [Component("depots", f"{__name__}:Depots", "where depots are")]

@hookimpl
def hfopt_resources():
    return [Component(name, f"{__name__}:Depot", "a depot") for name in ("depot", "s4")]

class DepotsConfig(Config):
    root: str | None = Field(None, description="The folder of all depots.")

class Depots(ConfigSection):
    Config = DepotsConfig

class DepotConfig(Config):
    url: str = Field(description="depot://NAME.")
    root: str | None = Field(None, description="null: as the section depots says.")

    @model_validator(mode="after")
    def _in_the_section(self, info):
        if isinstance(info.context, ConfigContext) and self.root is None:
            section = info.context.sections.get("depots")
            if section is None or section.root is None:
                raise ValueError("needs the section depots, with root")
            return self.model_copy(update={"root": section.root})
        return self

class Depot(Resource):
    Config = DepotConfig

    def resolve(self, context):
        return Resolved(self.config.url, "1")

    def fetch(self, pin, folder, context):
        source = Path(self.config.root, self.config.url.partition("://")[2])
        begun = context.unfinished / "begun"
        if not begun.exists() and "broken" in source.name:
            begun.parent.mkdir(parents=True)
            begun.write_text("half of it")
            raise PreconditionFailed("the depot is closed")
        shutil.copy(source, folder / source.name)
        return {"file": source.name}
"""


@pytest.fixture
def depots(project):
    """A project whose model lies in a depot."""
    (project.folder / "depots.py").write_text(DEPOTS)
    (project.folder / "far").mkdir()
    (project.folder / "far" / "line.json").write_text('{"slope": 0.5}')
    project.config["depots"] = {"root": str(project.folder / "far")}
    project.config["input_model"]["config"] = {"model_path": {"type": "depot", "config": {"url": "depot://line.json"}}}
    return project


def validated(project, **changes):
    project.config |= changes
    project.write()
    files = [project.plugin, project.folder / "depots.py"]
    return hfopt.validate(project.folder / "config.json", plugin_files=files)


def refusal(project, **changes):
    with pytest.raises(hfopt.ConfigError) as error:
        validated(project, **changes)
    return str(error.value)


def test_a_component_sees_the_file_that_was_fetched_in_place_of_its_reference(depots):
    done = depots.run("-p", "depots.py")

    assert done.returncode == 0, done.stderr
    assert depots.candidate["steps"][0]["name"] == "fetch depot"
    assert depots.candidate["status"] == "succeeded"


def test_a_url_is_a_resource_of_its_scheme(depots):
    depots.config["input_model"]["config"] = {"model_path": "s4://line.json"}

    (resource,) = validated(depots).input_model.resources.values()

    assert resource.registered.component.name == "s4"
    assert resource.config.url == "s4://line.json"


def test_what_was_begun_is_there_at_the_next_attempt_and_gone_after_it(depots):
    (depots.folder / "far" / "broken.json").write_text('{"slope": 0.5}')
    depots.config["input_model"]["config"] = {"model_path": "depot://broken.json"}
    begun = depots.folder / ".hfopt-cache" / "unfinished"

    first = depots.run("-p", "depots.py")

    assert first.returncode == 1
    assert "the depot is closed" in first.stderr
    assert len([*begun.glob("*/begun")]) == 1
    assert depots.run("-p", "depots.py").returncode == 0
    assert [*begun.glob("*")] == []


def test_what_a_resource_lacks_is_told_where_it_stands(depots):
    del depots.config["depots"]

    assert "input_model.config.model_path.config: needs the section depots, with root" in refusal(depots)


def test_a_type_of_resource_that_nobody_offers_is_told_with_those_that_there_are(depots):
    depots.config["input_model"]["config"] = {"model_path": {"type": "depto", "config": {}}}

    message = refusal(depots)

    assert "input_model.config.model_path.type: no resource named 'depto'; installed: " in message
    assert "did you mean 'depot'?" in message


def test_the_section_of_a_plugin_is_checked_though_nothing_uses_it(depots):
    assert "depots.roof: unknown key\n  hint: did you mean 'root'?" in refusal(depots, depots={"roof": "x"})


def test_a_key_that_is_nearly_a_plugins_is_told(depots):
    assert "depot: unknown key\n  hint: did you mean 'depots'?" in refusal(depots, depot={})


def test_a_section_whose_plugin_is_not_installed_is_a_notice(project):
    plugins = Plugins.discover([project.plugin])
    plugins.components = [each for each in plugins.components if each.hook != "hfopt_config_sections"]
    project.config["azureml_client"] = {"workspace_name": "w"}
    project.write()

    notices = resolve(read(project.folder / "config.json"), plugins).notices

    assert notices == ("azureml_client is ignored: it needs hfopt-azureml: pip install ./plugins/azureml",)
