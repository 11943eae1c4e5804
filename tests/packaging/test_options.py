"""Every option of every pass has a test that shows what becomes of it: PROOFS in a plugin's test_*_every_option.py."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path

import pytest

from hfopt.config.problems import keys_of
from hfopt.discovery.plugins import Plugins

PLUGINS = Path(__file__).parents[2] / "plugins"
PASSES = {registered.component.name: registered.load() for registered in Plugins.discover().of_kind("hfopt_passes")}
NEEDED = {
    "DynamicToFixedShape": {"dim_param": ["batch_size"], "dim_value": [2]},
    "OnnxStaticQuantization": {"data_config": "rows"},
    "OrtAccuracyRecovery": {"compared_data_config": "rows"},
    "OrtSmoothQuant": {"data_config": "rows"},
}
"""Options that a pass can't do without."""


def names_of_tests(folder: Path) -> set[str]:
    modules = [ast.parse(file.read_text()) for file in folder.glob("test_*.py")]
    return {node.name for module in modules for node in module.body if isinstance(node, ast.FunctionDef)}


def test_every_option_of_every_pass_names_a_test_that_exists():
    named: dict[str, set[str]] = {}
    for file in PLUGINS.glob("*/tests/test_*_every_option.py"):
        for name, proofs in runpy.run_path(str(file))["PROOFS"].items():
            assert set(proofs.values()) <= names_of_tests(file.parent)
            named[name] = set(proofs)

    assert named == {name: set(keys_of(cls.Config)) for name, cls in PASSES.items()}


@pytest.mark.parametrize("name", PASSES)
def test_options_survive_the_way_to_a_worker(name):
    """A worker gets every option written, defaults included: no rule may tell those that the user wrote by that."""
    model = PASSES[name].Config
    config = model.model_validate_json(json.dumps(NEEDED.get(name, {})))

    assert model.model_validate_json(config.model_dump_json()) == config
    assert config.ignored() == {}
