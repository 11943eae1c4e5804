"""OrtPerfTuning: what it tries, how it judges, what it saves."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hfopt import Accelerator, PreconditionFailed, Problem
from hfopt.api.timing import CannotTime
from hfopt.testing import validate
from hfopt_onnx_model.settings import settings_of
from hfopt_ort_passes import tuning
from hfopt_ort_passes.tuning import OrtPerfTuning, hopeless, judge, providers_to_try, summary, tune
from hfopt_ort_passes.tuning_options import AFFINITIES, Chain, OrtPerfTuningConfig, default_setting, settings_to_try

CPU, AZURE, CUDA = "CPUExecutionProvider", "AzureExecutionProvider", "CUDAExecutionProvider"
ON_CPU = {"execution_provider": [CPU], "provider_options": [{}]}


def config(**written):
    return OrtPerfTuningConfig.model_validate_json(json.dumps(written))


def refusal(**written):
    with pytest.raises(ValidationError) as caught:
        config(**written)
    error = caught.value.errors()[0]
    return error["loc"][0], error["msg"].removeprefix("Value error, ")


def default(wanted=None, cores=4, **own):
    return default_setting(wanted or config(), own, ON_CPU, cores)


def tried(wanted, cores, **own):
    chains = settings_to_try(wanted, default(wanted, cores, **own), [ON_CPU], cores)
    return [setting["session_options"] for chain in chains for setting in chain.settings]


def threads(wanted, cores, **own):
    names = ("execution_mode", "intra_op_num_threads", "inter_op_num_threads")
    return [tuple(each[name] for name in names) for each in tried(wanted, cores, **own)]


# -- what is tried ----------------------------------------------------------------------------------------------------


def test_by_default_threads_are_halved_within_operators_and_doubled_between_them():
    assert threads(config(), 4) == [(0, 4, 1), (0, 2, 1), (0, 1, 1), (1, 2, 2), (1, 1, 4)]


def test_one_core_leaves_nothing_to_try_but_the_default():
    assert threads(config(), 1) == [(0, 1, 1)]
    assert threads(config(execution_mode_list=["ORT_PARALLEL"]), 1) == [(1, 1, 1)]


def test_written_threads_modes_and_levels_are_obeyed():
    wanted = config(
        execution_mode_list=[1], intra_thread_num_list=[3], inter_thread_num_list=[2, 4], opt_level_list=[0, 99]
    )

    assert threads(wanted, 8) == [(1, 3, 2), (1, 3, 4)] * 2
    assert [each["graph_optimization_level"] for each in tried(wanted, 8)] == [0, 0, 99, 99]


def test_null_among_written_threads_stands_for_those_that_are_searched():
    wanted = config(execution_mode_list=[0], intra_thread_num_list=[3, None])

    assert threads(wanted, 4) == [(0, 3, 1), (0, 4, 1), (0, 2, 1), (0, 1, 1)]
    assert threads(config(intra_thread_num_list=None), 4) == threads(config(intra_thread_num_list=[]), 4)


@given(st.integers(1, 256), st.booleans())
def test_no_setting_is_tried_twice_or_uses_more_threads_than_there_are_and_there_are_few(cores, sequential):
    found = tried(config(**({"execution_mode_list": [0]} if sequential else {})), cores)

    assert len({str(each) for each in found}) == len(found) <= 2 * cores.bit_length()
    assert all(each["intra_op_num_threads"] * each["inter_op_num_threads"] <= cores for each in found)


def test_the_default_is_what_the_model_has_and_what_it_lacks_is_sequential_with_all_cores():
    assert default()["session_options"] == {
        "execution_mode": 0, "graph_optimization_level": 99, "intra_op_num_threads": 4, "inter_op_num_threads": 1,
    }  # fmt: skip
    own = {"execution_mode": 1, "graph_optimization_level": 1, "intra_op_num_threads": 3}
    assert default(session_options=own)["session_options"] == {**own, "inter_op_num_threads": 0}
    assert {each["graph_optimization_level"] for each in tried(config(), 4, session_options=own)} == {1}


def test_cpu_cores_limits_the_default_too():
    own = {"intra_op_num_threads": 8, "inter_op_num_threads": 0}

    limited = default(config(cpu_cores=2), cores=2, session_options=own)["session_options"]

    assert (limited["intra_op_num_threads"], limited["inter_op_num_threads"]) == (2, 2)


def test_affinities_fix_the_threads_within_an_operator_to_one_more_than_they_name():
    wanted = config(extra_session_config={AFFINITIES: "1;2"})

    assert threads(wanted, 8) == [(0, 3, 1), (1, 3, 2), (1, 3, 4), (1, 3, 8)]
    assert default(wanted)["session_options"]["intra_op_num_threads"] == 3
    assert refusal(intra_thread_num_list=[3, 4], extra_session_config={AFFINITIES: "1;2"}) == (
        "extra_session_config",
        f"{AFFINITIES} fixes the threads within an operator: intra_thread_num_list must be [3]",
    )


def test_extra_session_config_is_added_to_the_models_own_in_every_setting():
    own = {"extra_session_config": {"session.set_denormal_as_zero": "1"}}

    for each in tried(config(extra_session_config={"session.intra_op.allow_spinning": False}), 2, session_options=own):
        assert each["extra_session_config"] == {
            "session.set_denormal_as_zero": "1",
            "session.intra_op.allow_spinning": "0",
        }


def test_mistakes_are_refused_at_their_place():
    assert refusal(input_names=["x"]) == ("input_shapes", "is required with input_names")
    assert refusal(input_shapes=[[1]]) == ("input_shapes", "needs input_names")
    assert refusal(input_names=["x", "y"], input_shapes=[[1]]) == (
        "input_shapes",
        "must have one entry for each of the 2 input_names; has 1",
    )
    assert refusal(data_config="d", input_names=["x"], input_shapes=[[1]])[0] == "input_names"
    assert refusal(data_config="d", batch_size=2) == ("batch_size", "data_config says already how large a batch is")
    assert refusal(input_names=["x"], input_shapes=[[1]], input_types=["int65"]) == (
        "input_types",
        "no dtype named 'int65'; there is bfloat16, bool, float16, float32, float64, int16, int32, int64, int8, "
        "uint16, uint32, uint64, uint8",
    )
    assert refusal(providers_list=["CUDAExecutionProvidr"])[0] == "providers_list"
    assert refusal(providers_list=[CPU], trt_fp16_enable=True) == (
        "trt_fp16_enable",
        "needs TensorrtExecutionProvider in providers_list",
    )
    assert refusal(enable_cuda_graph=True)[1].startswith("a CUDA graph replays one shape")
    assert refusal(device="cuda") == ("device", "no device named 'cuda'; there is cpu, gpu, npu")


@pytest.mark.parametrize("written", [{}, {"input_shapes": None}])
def test_what_input_names_lack_is_told_at_the_place_of_input_shapes(written):
    problems: list[Problem] = []

    validate(OrtPerfTuningConfig, {"input_names": ["x"], **written}, ("config",), problems)

    assert [(each.path, each.message) for each in problems] == [
        (("config", "input_shapes"), "is required with input_names")
    ]


def test_providers_that_can_not_be_tried_are_skipped_with_the_reason_and_others_need_force():
    model = settings_of_nothing()
    wanted = {"providers_list": [CPU, AZURE, CUDA]}

    own, found, skipped = providers_to_try(config(**wanted), model, Accelerator())
    _, forced, _ = providers_to_try(config(**wanted, force_evaluate_other_eps=True), model, Accelerator())

    assert own == ON_CPU
    assert found == [ON_CPU]
    assert forced == [ON_CPU, {"execution_provider": [AZURE], "provider_options": [{}]}]
    assert skipped[AZURE] == f"the model runs on {CPU}; with force_evaluate_other_eps this one would be tried too"
    assert skipped[CUDA].startswith(f"this ONNX Runtime has no {CUDA}: pip install")
    with pytest.raises(
        PreconditionFailed, match=rf"no provider in providers_list can be tried: {CUDA}: this ONNX Runtime"
    ):
        providers_to_try(config(providers_list=[CUDA]), model, Accelerator())


def settings_of_nothing(**written):
    from hfopt_onnx_model.settings import InferenceSettings

    return InferenceSettings.model_validate_json(json.dumps(written))


def test_the_models_own_providers_keep_their_options():
    written = {"execution_provider": [AZURE, CPU], "provider_options": [{"a": 1}, {"b": 2}]}

    own, found, _ = providers_to_try(
        config(providers_list=[AZURE, CPU], force_evaluate_other_eps=True),
        settings_of_nothing(**written),
        Accelerator(),
    )

    assert own == {"execution_provider": [AZURE, CPU], "provider_options": [{"a": "1"}, {"b": "2"}]}
    assert found == [own, {"execution_provider": [CPU], "provider_options": [{"b": "2"}]}]


def test_a_provider_of_the_list_may_have_options_of_its_own():
    wanted = {"providers_list": [[CPU, {"use_arena": False}], CPU, [AZURE, {"a": 1}]], "force_evaluate_other_eps": True}

    own, found, _ = providers_to_try(config(**wanted), settings_of_nothing(), Accelerator())

    assert own == ON_CPU
    assert found == [
        {"execution_provider": [CPU], "provider_options": [{"use_arena": "False"}]},
        ON_CPU,
        {"execution_provider": [AZURE], "provider_options": [{"a": "1"}]},
    ]


def test_float16_of_tensorrt_is_an_option_of_tensorrt_or_refused():
    tensorrt = "TensorrtExecutionProvider"
    accelerator = Accelerator(device="gpu", execution_provider=tensorrt)

    own, _, _ = providers_to_try(config(trt_fp16_enable=True), settings_of_nothing(), accelerator)

    assert own == {"execution_provider": [tensorrt], "provider_options": [{"trt_fp16_enable": "True"}]}
    with pytest.raises(PreconditionFailed, match=f"trt_fp16_enable needs {tensorrt}, and the model runs on {CPU}"):
        providers_to_try(config(trt_fp16_enable=True), settings_of_nothing(), Accelerator())


# -- how it is judged, on timings made up here ------------------------------------------------------------------------


def timings(first, second, seed=0, noise=0.3, shape=(16, 4)):
    chance = np.random.default_rng(seed)
    return np.stack([chance.normal(mean, noise, size=shape) for mean in (first, second)])


class Clock:
    """Times settings, which are plain names here, by what each takes; an exception in place of a number is raised.

    A list is what it takes the first time, the second time...
    """

    def __init__(self, **takes):
        self.takes = takes
        self.asked = []

    def __call__(self, first, second, *, whole=False):
        self.asked.append((first, second))
        spent = [self._takes(name, position) for position, name in enumerate((first, second))]
        return judge(timings(*spent, seed=len(self.asked)))

    def _takes(self, name, position):
        taken = self.takes[name]
        taken = taken.pop(0) if isinstance(taken, list) else taken
        if taken is None:
            raise CannotTime(f"{name} is broken", position=position)
        return taken


def chain(*names, searched=False):
    return Chain(names, searched)


def test_only_a_difference_beyond_doubt_counts_as_faster():
    noise = timings(10, 10, noise=1, shape=(16, 8))

    assert judge(noise)["faster"] is False
    assert judge(noise - np.array([0, 2])[:, None, None])["faster"] is True
    slower = judge(noise + np.array([0, 2])[:, None, None])
    assert slower["faster"] is False
    assert slower["speedup"]["high"] < 1
    assert slower["speedup"]["value"] == pytest.approx(slower["medians_ms"][0] / slower["medians_ms"][1], rel=0.02)


def test_timing_is_hopeless_once_the_second_is_beyond_doubt_not_faster_or_slower_in_every_block():
    assert hopeless(timings(10, 15)) is True
    assert hopeless(timings(10, 10.1)) is True
    assert hopeless(timings(10, 9)) is False
    unsure = timings(10, 15)
    unsure[1, :2] = 2
    assert hopeless(unsure) is False


@pytest.mark.parametrize(("gain", "least", "most"), [(-0.1, 0.99, 1), (0, 0.2, 1), (0.05, 0, 0.01), (0.1, 0, 0.005)])
def test_what_is_faster_is_seldom_given_up_however_often_one_looks(gain, least, most):
    """Blocks whose medians vary by 3 %: given up at any look from the fourth of 16 blocks on."""
    random = np.random.default_rng(3)
    trials = np.exp(random.normal(0, 0.03, (2_000, 2, 16, 1)))
    trials[:, 1] /= 1 + gain
    given_up = np.mean([any(hopeless(trial[:, :seen]) for seen in range(4, 16)) for trial in trials])
    assert least <= given_up <= most


def test_the_fastest_wins_and_is_confirmed_against_the_default():
    clock = Clock(default=10, slow=20, fast=8, fastest=6, middling=9)

    found = tune("default", [chain("default", "slow", "fast"), chain("fastest", "middling")], clock)

    assert clock.asked == [
        ("default", "slow"), ("default", "fast"), ("fast", "fastest"), ("fastest", "middling"), ("default", "fastest"),
    ]  # fmt: skip
    assert (found["saved"], found["default_kept"]) == ("fastest", False)
    assert found["confirmation"]["faster"] is True
    assert re.fullmatch(r"1\.[67]\d times as fast as the default, the best of 5 settings", summary(found))
    assert [trial["faster"] for trial in found["trials"]] == [False, True, True, False]
    assert [trial["times_default"] for trial in found["trials"]] == pytest.approx([2, 0.8, 0.6, 0.9], rel=0.05)


def test_a_winner_that_does_not_win_again_is_not_saved():
    clock = Clock(default=10, lucky=[8, 10.5])

    found = tune("default", [chain("default", "lucky")], clock)

    assert found["trials"][0]["faster"] is True
    assert found["confirmation"]["faster"] is False
    assert (found["saved"], found["default_kept"]) == ("default", True)
    assert summary(found) == "default kept, no other of 2 settings was faster twice"


def test_where_there_is_nothing_but_the_default_the_summary_says_so():
    assert summary(tune("default", [chain("default")], Clock(default=10))) == (
        "default kept, no other setting could be timed"
    )


def test_settings_that_all_take_the_same_are_hardly_ever_saved():
    """The tournament alone would save one of the twelve in one case of five or so."""
    chance = np.random.default_rng(0)

    def luck(first, second, *, whole=False):
        return judge(chance.normal(10, 1, size=(2, 16, 2)))

    names = [f"setting {number}" for number in range(12)]
    found = [tune("default", [chain(*names)], luck) for _ in range(40)]

    won = sum(each["confirmation"] is not None for each in found)
    saved = sum(not each["default_kept"] for each in found)
    assert won >= 4
    assert saved <= 2


def test_a_setting_that_fails_is_reported_with_its_reason_and_skipped():
    found = tune("default", [chain("default", "broken", "fast")], Clock(default=10, broken=None, fast=8))

    assert found["trials"][0] == {
        "incumbent": "default",
        "challenger": "broken",
        "failed": "challenger",
        "reason": "broken is broken",
    }
    assert found["saved"] == "fast"


def test_a_default_that_fails_fails_the_pass():
    with pytest.raises(CannotTime, match="default is broken"):
        tune("default", [chain("default", "fast")], Clock(default=None, fast=8))


def test_a_fast_setting_that_fails_later_is_out_and_the_default_is_back():
    clock = Clock(default=10, flaky=[8, None], other=9)

    found = tune("default", [chain("flaky", "slow", "other")], Clock(default=10, flaky=[8, None], slow=12, other=9))

    assert [trial.get("failed") for trial in found["trials"]] == [None, "incumbent", None]
    assert found["trials"][2]["incumbent"] == "default"
    assert found["saved"] == "other"
    assert tune("default", [chain("flaky")], clock)["confirmation"]["reason"] == "flaky is broken"


def test_searched_threads_end_where_they_have_become_much_slower_and_written_ones_do_not():
    takes = {"default": 10, "half": 9.5, "quarter": 16, "eighth": 30}
    names = ("default", "half", "quarter", "eighth")

    searched = tune("default", [chain(*names, searched=True)], Clock(**takes))["trials"]
    written = tune("default", [chain(*names)], Clock(**takes))["trials"]

    assert [trial["challenger"] for trial in searched] == ["half", "quarter", "eighth"]
    assert searched[-1]["left_out"] is True
    assert "1.5 times as long" in searched[-1]["reason"]
    assert all("medians_ms" in trial for trial in written)


def test_where_there_is_nothing_else_to_try_the_default_is_measured_all_the_same():
    for chains in ([chain("default")], [chain("default", "broken")]):
        found = tune("default", chains, Clock(default=10, broken=None))

        assert found["trials"][-1]["medians_ms"] == pytest.approx([10, 10], rel=0.05)
        assert found["default_kept"] is True


# -- on a model ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tune_model(converted, context, monkeypatch):
    """Runs the pass with few timed runs."""
    monkeypatch.setattr(tuning, "TRIAL_SECONDS", 0.05)
    monkeypatch.setattr(tuning, "WARMUP", 3)

    def run(model=converted, **written):
        return OrtPerfTuning(config(**written)).run(model, context)

    return run


def test_what_is_saved_has_been_measured_and_has_won_twice_or_is_the_default(tune_model, converted):
    result = tune_model(cpu_cores=2)

    report = result.report
    assert len(report["trials"]) == 2
    assert all(len(trial["medians_ms"]) == 2 for trial in report["trials"])
    assert result.model.inference_settings == report["saved"]
    measured = [report["default"], *(trial["challenger"] for trial in report["trials"])]
    assert report["saved"] in measured
    assert report["default_kept"] == (report["saved"] == report["default"])
    assert report["default_kept"] or report["confirmation"]["faster"]
    assert report["threads"] == 2
    assert result.model.path == converted.path
    json.dumps(report)


@pytest.mark.parametrize("written", [{"cpu_cores": 1}, {"intra_thread_num_list": [4], "execution_mode_list": [0]}])
def test_where_there_is_little_to_try_it_is_still_measured(tune_model, written):
    report = tune_model(**written).report

    assert len(report["trials"]) == 1
    assert report["trials"][0]["runs"] >= 8  # four blocks, before which no comparison is given up


def test_the_saved_settings_are_those_of_the_session_that_opens_it(tune_model, context):
    tuned = tune_model(cpu_cores=1, extra_session_config={"session.intra_op.allow_spinning": "0"}, io_bind=True).model

    with context.open(tuned, {"threads": 2}) as session:
        options = session.live.get_session_options()

    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert settings_of(tuned).io_bind is True


def test_what_else_the_model_was_set_to_is_kept_and_a_profile_is_not_written_while_timing(tune_model, converted):
    own = {
        "execution_provider": [AZURE, CPU],
        "provider_options": [{"a": "1"}, {}],
        "session_options": {"graph_optimization_level": 1, "enable_profiling": True},
        "io_bind": True,
    }

    result = tune_model(converted.with_(inference_settings=own), cpu_cores=1)

    saved = result.model.inference_settings
    assert {key: saved[key] for key in ("execution_provider", "provider_options", "io_bind")} == {
        key: own[key] for key in ("execution_provider", "provider_options", "io_bind")
    }
    assert saved["session_options"]["graph_optimization_level"] == 1
    assert saved["session_options"]["enable_profiling"] is True
    assert "enable_profiling" not in result.report["default"]["session_options"]


def test_the_report_has_the_snippet_that_opens_the_model_as_it_was_saved(tune_model, converted, monkeypatch):
    report = tune_model(cpu_cores=1).report
    monkeypatch.chdir(converted.path.parent)
    names = {}

    exec(report["snippet"], names)

    assert names["session"].get_session_options().intra_op_num_threads == 1
    assert names["session"].get_providers() == [CPU]


def test_another_provider_is_tried_if_that_is_forced(tune_model):
    report = tune_model(
        cpu_cores=1, providers_list=[AZURE, CUDA], force_evaluate_other_eps=True, execution_mode_list=[0]
    ).report

    (trial,) = report["trials"]
    assert trial["challenger"]["execution_provider"] == [AZURE]
    assert trial["incumbent"]["execution_provider"] == [CPU]
    assert list(report["skipped_providers"]) == [CUDA]


def test_a_setting_that_onnx_runtime_refuses_is_in_the_report_and_the_default_is_saved(tune_model, converted):
    own = {"session_options": {"intra_op_num_threads": 2, "extra_session_config": {AFFINITIES: "1"}}}

    report = tune_model(
        converted.with_(inference_settings=own), intra_thread_num_list=[4], execution_mode_list=[0]
    ).report

    refused, control = report["trials"]
    assert refused["failed"] == "challenger"
    assert "Number of affinities" in refused["reason"]
    assert len(control["medians_ms"]) == 2
    assert report["default_kept"] is True


def test_examples_are_made_of_exactly_the_inputs_that_are_written(converted, context, monkeypatch):
    seen = []

    def compare(first, second, feeds, **options):
        seen.extend(feeds)
        return timings(10, 10)

    shapes = {"input_names": ["input_ids", "attention_mask"], "input_shapes": [[2, 7], [2, 7]]}
    watched = type(context)(**{**vars(context), "compare": compare})
    OrtPerfTuning(config(cpu_cores=1, **shapes, input_types=["int64", "int64"])).run(converted, watched)

    assert {name: (array.shape, array.dtype) for name, array in seen[0].items()} == {
        "input_ids": ((2, 7), np.int64),
        "attention_mask": ((2, 7), np.int64),
    }
    assert seen[0]["input_ids"].max() > 1


def test_rows_are_those_of_the_data_and_examples_have_the_batch_size_that_is_written(converted, context, lines):
    seen = []

    def compare(first, second, feeds, **options):
        seen.append([each["input_ids"].shape for each in feeds])
        return timings(10, 10)

    watched = dataclasses.replace(context, compare=compare)
    for written in ({"data_config": "rows"}, {"batch_size": 3}, {}):
        OrtPerfTuning(config(cpu_cores=1, **written)).run(converted, watched)

    assert seen == [[batch.feeds["input_ids"].shape for batch in lines(12).batches()], [(3, 64)], [(1, 64)]]


def test_examples_that_the_model_does_not_take_are_refused(tune_model):
    with pytest.raises(PreconditionFailed) as unknown:
        tune_model(input_names=["input_idx"], input_shapes=[[1, 2]])
    assert unknown.value.message.startswith("input_names: the model takes no 'input_idx'; it takes input_ids, ")
    assert unknown.value.hint == "did you mean 'input_ids'?"
    with pytest.raises(PreconditionFailed, match="input_types: input_ids is float32, but the model takes int64"):
        tune_model(input_names=["input_ids"], input_shapes=[[1, 2]], input_types=["float32"])
    with pytest.raises(CannotTime, match="the ONNXModel can't be timed: ONNX Runtime can't run the model: "):
        tune_model(input_names=["input_ids"], input_shapes=[[2]], cpu_cores=1)


def test_a_model_of_fewer_positions_than_the_examples_have_is_told_to_be_given_data(tune_model, monkeypatch):
    monkeypatch.setattr(tuning, "EXAMPLE_LENGTH", 65)

    with pytest.raises(CannotTime) as failure:
        tune_model(cpu_cores=1)

    assert failure.value.hint == "it was given 65 tokens: name a data_config, or input_names and input_shapes"


def test_a_device_that_is_not_the_accelerators_is_refused(tune_model):
    with pytest.raises(PreconditionFailed, match="device is gpu, but this run's accelerator is cpu"):
        tune_model(device="gpu")


def test_a_profile_of_the_saved_setting_goes_into_the_steps_folder(tune_model, context):
    result = tune_model(cpu_cores=1, enable_profiling=True)

    events = json.loads((context.folder / result.report["profile"]).read_text())
    assert any(event.get("args", {}).get("op_name") == "MatMul" for event in events)
    assert "enable_profiling" not in result.model.inference_settings["session_options"]
