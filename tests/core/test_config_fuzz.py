"""Damaged configs: what is damaged is named at its place. `make attack` tries far more."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hfopt.cli.main import main
from hfopt.config.document import dotted
from hfopt.discovery.plugins import Plugins

THOROUGH = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

CONFIG = {
    "input_model": {
        "type": "PyTorchModel",
        "config": {
            "model_path": "./model",
            "hf_config": {
                "task": "text-classification",
                "from_pretrained_args": {"attn_implementation": "eager", "extra_args": {"a": 1}},
            },
        },
    },
    "systems": {
        "here": {
            "type": "LocalSystem",
            "config": {"accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}]},
        }
    },
    "data_root": ".",
    "data_configs": [
        {
            "name": "rows",
            "type": "HuggingfaceContainer",
            "params_config": {
                "data_name": "csv",
                "data_files": "rows.csv",
                "split": "train[:10]",
                "input_cols": ["text"],
                "label_cols": ["label"],
                "component_kwargs": {"pre_process_data": {"max_length": 64}},
            },
        },
        {
            "name": "newer",
            "type": "HuggingfaceContainer",
            "load_dataset_config": {
                "type": "huggingface_dataset",
                "params": {"data_name": "csv"},
                "data_files": "rows.csv",
            },
            "pre_process_data_config": {"input_cols": ["text"], "max_length": 64},
            "dataloader_config": {"type": "default_dataloader", "params": {"batch_size": 2}},
        },
    ],
    "evaluators": {
        "e": {
            "metrics": [
                {
                    "name": "accuracy",
                    "type": "accuracy",
                    "backend": "huggingface_metrics",
                    "data_config": "rows",
                    "sub_types": [
                        {
                            "name": "f1",
                            "priority": 1,
                            "goal": {"type": "max-degradation", "value": 0.1},
                            "metric_config": {"compute_params": {"average": "macro"}},
                        }
                    ],
                },
                {
                    "name": "latency",
                    "type": "latency",
                    "data_config": {
                        "name": "timed",
                        "type": "HuggingfaceContainer",
                        "params_config": {"data_name": "csv", "data_files": "rows.csv", "input_cols": ["text"]},
                    },
                    "sub_types": [{"name": "p50", "metric_config": {"warmup_num": 3}}],
                },
            ]
        }
    },
    "passes": {
        "conversion": {"type": "OnnxConversion", "config": {"target_opset": 17}},
        "fusion": {"type": "OrtTransformersOptimization", "config": {"optimization_options": {"enable_gelu": True}}},
        "quantization": {"type": "OnnxQuantization", "config": {"data_config": "rows", "per_channel": True}},
        "tuning": {
            "type": "OrtPerfTuning",
            "config": {"data_config": "rows", "intra_thread_num_list": [1, 2]},
            "host": {"type": "LocalSystem"},
        },
    },
    "pass_flows": [["conversion", "fusion", "quantization", "tuning"]],
    "engine": {"evaluator": "e", "host": "here", "target": "here", "output_dir": "out", "evaluate_input_model": True},
}
FREE = {("input_model", "config", "hf_config", "from_pretrained_args"), ("passes",), ("systems",), ("evaluators",)}
"""Objects whose keys are the user's own, or are passed on: any key may stand there."""
FREE |= {(*place, "extra_args") for place in FREE}

NAMES = [
    ("input_model", "type"),
    ("systems", "here", "type"),
    ("data_configs", 0, "type"),
    ("data_configs", 1, "load_dataset_config", "type"),
    ("data_configs", 1, "dataloader_config", "type"),
    ("evaluators", "e", "metrics", 0, "backend"),
    ("evaluators", "e", "metrics", 0, "data_config"),
    ("evaluators", "e", "metrics", 0, "sub_types", 0, "name"),
    ("evaluators", "e", "metrics", 1, "sub_types", 0, "name"),
    ("passes", "conversion", "type"),
    ("passes", "quantization", "config", "data_config"),
    ("passes", "tuning", "type"),
    ("engine", "evaluator"),
    ("engine", "host"),
    ("engine", "target"),
]
"""Places where a name must be one of those that are known."""


def places(value, path=()):
    """Every place in JSON, with what is there."""
    yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


EVERYWHERE = list(places(CONFIG))
OBJECTS = [path for path, value in EVERYWHERE if isinstance(value, dict) and path not in FREE]
TYPED = [(path, value) for path, value in EVERYWHERE if isinstance(value, bool | int | float | str) and path]

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def put(config, path, value):
    changed = copy.deepcopy(config)
    place = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "rows.csv").write_text("text,label\na film,1\n")
    return folder


@pytest.fixture
def validated(folder, monkeypatch, capsys):
    """Validates a config as the command does; plugins are looked for once, as it takes most of the time."""
    plugins = Plugins.discover()
    monkeypatch.setattr(Plugins, "discover", classmethod(lambda cls, files=(): plugins))

    def run(config):
        file = folder / "config.json"
        file.write_text(json.dumps(config))
        code = main(["validate", str(file)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        assert code in (0, 2, 3), printed.err
        return code, printed.err

    return run


def test_the_config_that_is_damaged_here_is_valid(validated):
    assert validated(CONFIG) == (0, "")


@THOROUGH
@given(data=st.data())
def test_an_unknown_key_anywhere_is_named(validated, data):
    path = data.draw(st.sampled_from(OBJECTS))
    key = data.draw(st.from_regex(r"[a-z]{3}_[a-z]{4}", fullmatch=True))
    inner = CONFIG
    for part in path:
        inner = inner[part]

    code, error = validated(put(CONFIG, (*path, f"zz_{key}"), data.draw(ANYTHING)))

    if path and path[-1] == "extra_args":
        return
    assert code == 2
    assert f"zz_{key}" in error


@THOROUGH
@given(data=st.data())
def test_a_misspelt_name_is_a_mistake_at_its_place(validated, data):
    path = data.draw(st.sampled_from(NAMES))
    position = data.draw(st.integers(0, 20))
    letter = data.draw(st.sampled_from("qxzj"))
    name = CONFIG
    for part in path:
        name = name[part]

    code, error = validated(put(CONFIG, path, name[:position] + letter + name[position:]))

    assert code == 2
    assert f": {dotted(path)}: " in error


@THOROUGH
@given(data=st.data())
def test_a_value_of_a_wrong_type_is_a_mistake_at_its_place(validated, data):
    path, _ = data.draw(st.sampled_from(TYPED))

    code, error = validated(put(CONFIG, path, {"zzz": [1]}))

    if "extra_args" in path:
        return
    assert code == 2
    assert dotted(path) in error
