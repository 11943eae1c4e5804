"""Every inference setting, as the real session has it, or the sentence that refuses it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError

from hfopt import Accelerator, FetchContext, ModelHandle, PreconditionFailed
from hfopt.api.config import ConfigContext
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig
from hfopt_onnx_model.session import OrtSession
from hfopt_onnx_model.settings import InferenceSettings, chosen_providers, saved, session_options, session_snippet

CPU, AZURE = "CPUExecutionProvider", "AzureExecutionProvider"
"""The two that every CPU build has. The second computes nothing by itself."""
X = np.array([[1.5, -2.0]], dtype=np.float32)


def save(path, node, output=TensorProto.FLOAT):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch_size", 2])
    y = helper.make_tensor_value_info("y", output, ["batch_size", 2])
    graph = helper.make_graph([node], "one node", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    return save(tmp_path / "model.onnx", helper.make_node("Relu", ["x"], ["y"]))


def settings(**written):
    return InferenceSettings.model_validate_json(json.dumps(written))


def fetch(path, **written):
    config = ONNXModelConfig(model_path=str(path), inference_settings=settings(**written))
    return ONNXModel(config).fetch(FetchContext(path.parent, lambda *_: None))


def open_model(handle: ModelHandle, accelerator=None, **overrides):
    return ONNXModel(ONNXModelConfig()).open(handle, accelerator or Accelerator(), overrides)


def refusal(**written):
    with pytest.raises(ValidationError) as caught:
        settings(**written)
    (error,) = caught.value.errors()
    return error["loc"], error["msg"].removeprefix("Value error, ")


def test_session_options_reach_the_session_level_zero_included(file):
    options = {
        "intra_op_num_threads": 1, "inter_op_num_threads": 2, "execution_mode": 1, "graph_optimization_level": 0,
        "extra_session_config": {"session.intra_op.allow_spinning": False, "session.dynamic_block_base": 4},
    }  # fmt: skip

    with open_model(fetch(file, session_options=options), threads=2) as session:
        reached = session.live.get_session_options()

    assert (reached.intra_op_num_threads, reached.inter_op_num_threads) == (1, 2)
    assert reached.execution_mode.name == "ORT_PARALLEL"
    assert reached.graph_optimization_level.name == "ORT_DISABLE_ALL"
    assert reached.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert reached.get_session_config_entry("session.dynamic_block_base") == "4"


def test_threads_of_the_step_count_where_the_model_says_nothing():
    assert session_options(InferenceSettings(), threads=2).intra_op_num_threads == 2


def test_what_a_step_asks_for_wins_over_the_models_own_settings(file):
    handle = fetch(file, session_options={"graph_optimization_level": 1}, io_bind=True)

    with open_model(handle, session_options={"graph_optimization_level": 2}) as session:
        assert session.live.get_session_options().graph_optimization_level.name == "ORT_ENABLE_EXTENDED"


@pytest.mark.parametrize("written, providers", [(AZURE, [AZURE, CPU]), ([CPU], [CPU]), ([AZURE, CPU], [AZURE, CPU])])
def test_the_execution_provider_is_the_one_written_and_not_the_accelerators(file, written, providers):
    with open_model(fetch(file, execution_provider=written)) as session:
        assert session.live.get_providers() == providers


def test_the_accelerators_provider_counts_where_the_model_names_none(file):
    with open_model(fetch(file), Accelerator(execution_provider=AZURE)) as session:
        assert session.live.get_providers()[0] == AZURE


def test_provider_options_may_be_numbers_and_booleans_and_go_to_their_provider(file):
    written = settings(
        execution_provider=["CUDAExecutionProvider", CPU],
        provider_options=[{"device_id": 1, "use_tf32": False, "arena_extend_strategy": "kSameAsRequested"}, {}],
    )

    chosen = chosen_providers(written, Accelerator())

    assert list(chosen) == ["CUDAExecutionProvider", CPU]
    assert chosen["CUDAExecutionProvider"] == {
        "device_id": "1",
        "use_tf32": "False",
        "arena_extend_strategy": "kSameAsRequested",
    }
    handle = fetch(file, execution_provider=[AZURE, CPU], provider_options=[{"anything": 1.5}, {}])
    with open_model(handle) as session:
        assert set(session.live.get_provider_options()) == {AZURE, CPU}


def test_openvino_learns_the_device_from_the_accelerator_unless_its_options_say():
    name = "OpenVINOExecutionProvider"
    accelerator = Accelerator(device="gpu", execution_provider=name)

    assert chosen_providers(settings(), accelerator) == {name: {"device_type": "GPU"}}
    written = settings(provider_options=[{"device_type": "AUTO:GPU,CPU", "num_streams": 2}])
    assert chosen_providers(written, accelerator) == {name: {"device_type": "AUTO:GPU,CPU", "num_streams": "2"}}


def test_mistakes_are_refused_at_their_place():
    assert refusal(execution_provider=[CPU], provider_options=[{}, {}]) == (
        ("provider_options",),
        f"must have one entry for each execution provider ({CPU}); has 2",
    )
    assert refusal(provider_options=[]) == (
        ("provider_options",),
        "must have one entry for each execution provider (the accelerator's); has 0",
    )
    assert refusal(execution_provider=CPU, tuning_op_result=[{}]) == (
        ("tuning_op_result",),
        "CPUExecutionProvider has no tunable operators; CUDAExecutionProvider and ROCMExecutionProvider have",
    )
    with pytest.raises(ValidationError, match="no execution provider named 'CPUExecutionProvder'"):
        settings(execution_provider="CPUExecutionProvder")
    with pytest.raises(ValidationError, match="should be a valid string"):
        settings(provider_options=[{"device_id": [1]}])


def test_a_profile_goes_to_a_temporary_folder_and_the_log_names_it(file, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    with open_model(fetch(file, session_options={"enable_profiling": True})) as session:
        session.run({"x": X})

    (profile,) = (tmp_path / "temporary").glob("hfopt-profiles-*/model_*.json")
    assert {event["name"] for event in json.loads(profile.read_text())} >= {"model_run"}
    assert capfd.readouterr().err == f"profile written to {profile}\n"
    assert list((tmp_path / "here").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["model.onnx"]


@pytest.mark.parametrize("io_bind", [False, True])
def test_a_run_gives_the_same_with_io_binding_and_without(file, monkeypatch, io_bind):
    bindings = []
    original = OrtSession._bound
    monkeypatch.setattr(OrtSession, "_bound", lambda *given, **more: bindings.append(1) or original(*given, **more))

    with open_model(fetch(file, io_bind=io_bind)) as session:
        for scale in (1, 3):
            found = session.run({"x": X * scale})
            np.testing.assert_array_equal(found["y"], [[1.5 * scale, 0]])

    assert len(bindings) == (2 if io_bind else 0)


def test_bfloat16_comes_out_as_float32(tmp_path):
    path = save(
        tmp_path / "model.onnx",
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16),
        output=TensorProto.BFLOAT16,
    )

    with open_model(fetch(path)) as session:
        found = session.run({"x": np.array([[1.0, 3.14159]], dtype=np.float32)})["y"]

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[1.0, 3.140625]], dtype=np.float32))


def test_feeds_that_do_not_fit_are_a_sentence_when_run_and_when_timed(file):
    with open_model(fetch(file)) as session:
        for call in (session.run, session.bind):
            with pytest.raises(PreconditionFailed) as failure:
                call({"x": np.ones((1, 3))})
            assert failure.value.message == "the model takes x of the shape [batch_size, 2], and the data have [1, 3]"
            assert "padding (to max_length) of the data" in failure.value.hint


def test_session_options_that_onnx_runtime_refuses_are_a_sentence_and_nothing_is_printed(file, capfd):
    extra = {"session.intra_op_thread_affinities": "1"}
    handle = fetch(file, session_options={"intra_op_num_threads": 4, "extra_session_config": extra})

    with pytest.raises(PreconditionFailed, match=r"^ONNX Runtime refuses model\.onnx: .*Number of affinities"):
        open_model(handle)
    assert capfd.readouterr() == ("", "")


def test_tuning_results_are_refused_by_a_provider_without_tunable_operators(file):
    results = [{"ep": CPU, "results": {}, "validators": {}}]

    with pytest.raises(PreconditionFailed) as refused:
        open_model(fetch(file, tuning_op_result=results))

    assert refused.value.message.startswith("ONNX Runtime refuses the tuning results: ")
    assert f"{CPU} does not support TunableOp" in refused.value.message


def test_the_content_of_a_tuning_result_file_travels_with_the_model(tmp_path):
    file = tmp_path / "tuned.json"
    file.write_text('[{"ep": "CUDAExecutionProvider"}]')
    around = ConfigContext(tmp_path)
    written = InferenceSettings.model_validate_json('{"tuning_result_file": "tuned.json"}', context=around)

    assert around.used_paths == [file]
    assert saved(written) == {"session_options": {}, "tuning_op_result": [{"ep": "CUDAExecutionProvider"}]}
    file.write_text("{}")
    with pytest.raises(PreconditionFailed, match="is not a JSON list of tuning results"):
        saved(written)
    assert refusal(tuning_op_result=[{}], tuning_result_file=str(file)) == (
        ("tuning_result_file",),
        "tuning_op_result is given too: give one of the two",
    )


def test_the_snippet_opens_the_model_with_its_provider_and_every_session_option(file, monkeypatch):
    options = {
        "intra_op_num_threads": 3, "inter_op_num_threads": 2, "execution_mode": 1, "graph_optimization_level": 0,
        "enable_profiling": False, "extra_session_config": {"session.intra_op.allow_spinning": "0"},
    }  # fmt: skip
    handle = fetch(
        file, execution_provider=[AZURE, CPU], provider_options=[{"key": "value"}, {}], session_options=options
    )
    monkeypatch.chdir(file.parent)
    names = {}

    code = ONNXModel(ONNXModelConfig()).snippet(handle)
    exec(code, names)

    with open_model(handle) as session:
        wanted = session.live.get_session_options()
    reached = names["session"].get_session_options()
    for name in ("intra_op_num_threads", "inter_op_num_threads", "execution_mode", "graph_optimization_level"):
        assert getattr(reached, name) == getattr(wanted, name)
    assert reached.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert names["session"].get_providers() == [AZURE, CPU]
    assert f"providers=[('{AZURE}', {{'key': 'value'}}), '{CPU}']" in code


def test_the_snippet_of_a_model_without_settings_is_short_and_runs(file, monkeypatch):
    code = session_snippet("model.onnx", InferenceSettings())
    monkeypatch.chdir(file.parent)
    names = {}

    exec(code, names)

    assert code.count("\n") == 3
    np.testing.assert_array_equal(names["session"].run(None, {"x": X})[0], [[1.5, 0]])


def test_sessions_log_as_the_run_says(monkeypatch):
    monkeypatch.setenv("HFOPT_ORT_LOG_LEVEL", "2")
    assert session_options(InferenceSettings(), None).log_severity_level == 2

    monkeypatch.delenv("HFOPT_ORT_LOG_LEVEL")
    assert session_options(InferenceSettings(), None).log_severity_level == 4
