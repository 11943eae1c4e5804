"""What every component of every installed plugin of this workspace keeps to."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from hfopt.api.choosing import PassChooser
from hfopt.api.commands import OWN, Command
from hfopt.api.config import ConfigSection
from hfopt.api.data import DataContainer
from hfopt.api.metrics import MetricBackend
from hfopt.api.model import ModelLoader
from hfopt.api.packaging import Packager
from hfopt.api.passes import Pass
from hfopt.api.resources import Resource
from hfopt.api.search import SearchAlgorithm
from hfopt.api.systems import System
from hfopt.discovery.plugins import Plugins, RegisteredComponent

FRAMEWORKS = (
    *("azure", "torch", "transformers", "datasets", "evaluate", "onnx", "onnxruntime", "onnx_ir", "pyarrow"),
    "sklearn",
)
BASES = {
    "hfopt_model_loaders": ModelLoader,
    "hfopt_data_containers": DataContainer,
    "hfopt_metric_backends": MetricBackend,
    "hfopt_passes": Pass,
    "hfopt_systems": System,
    "hfopt_resources": Resource,
    "hfopt_config_sections": ConfigSection,
    "hfopt_packagers": Packager,
    "hfopt_pass_choosers": PassChooser,
    "hfopt_search_algorithms": SearchAlgorithm,
    "hfopt_commands": Command,
}
PLUGINS = Plugins.discover()
COMPONENTS = [
    pytest.param(registered, id=registered.full_name)
    for registered in PLUGINS.components
    if registered.hook not in ("hfopt_commands", "hfopt_config_dialects")  # which have no options
]


def known_table():
    spec = importlib.util.spec_from_file_location("known_table", Path(__file__).with_name("known_table.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_distribution_of_the_workspace_is_installed_and_loaded():
    loaded = {info.distribution for info in PLUGINS.infos if info.problem is None}

    assert set(known_table().workspace()) <= loaded


def test_the_table_of_known_components_is_what_the_plugins_declare():
    written = Path(importlib.util.find_spec("hfopt.discovery").origin).with_name("known.toml").read_text()

    assert written == known_table().render(), "run `make known`"


@pytest.mark.parametrize("registered", COMPONENTS)
def test_a_component_is_of_its_kind_and_describes_every_option(registered: RegisteredComponent):
    component = registered.load()

    assert issubclass(component, BASES[registered.hook])
    assert undescribed(component.Config) == []


@pytest.mark.parametrize("registered", COMPONENTS)
def test_a_component_refuses_unknown_options_and_is_frozen(registered: RegisteredComponent):
    config = registered.load().Config

    assert config.model_config["extra"] == "forbid"
    assert config.model_config["frozen"] is True


@pytest.mark.parametrize("registered", PLUGINS.of_kind("hfopt_commands"), ids=str)
def test_a_command_is_one_and_its_name_is_not_taken(registered: RegisteredComponent):
    assert issubclass(registered.load(), Command)
    assert registered.component.name not in OWN


def test_importing_every_component_imports_no_framework():
    targets = [registered.component.target.partition(":")[0] for registered in PLUGINS.components]
    program = (
        f"import sys, importlib\nfor target in {targets}: importlib.import_module(target)\n"
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )

    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == "[]"


def undescribed(model: type[BaseModel]) -> list[str]:
    fields = model.model_fields.items()
    missing = [f"{model.__name__}.{name}" for name, field in fields if not field.description]
    for _, field in fields:
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            missing += undescribed(field.annotation)
    return missing
