"""OrtPerfTuning: what it tries, how it judges, what it saves."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hfopt_ort_passes.tuning import OrtPerfTuning, OrtPerfTuningConfig, judge, settings_to_try


def threads(config, cores):
    return [
        (each["execution_mode"], each["intra_op_num_threads"], each["inter_op_num_threads"])
        for each in settings_to_try(config, cores)
    ]


def test_by_default_threads_are_halved_in_both_modes_and_sequential_with_all_threads_comes_first():
    assert threads(OrtPerfTuningConfig(), 4) == [(0, 4, 1), (0, 2, 1), (0, 1, 1), (1, 1, 4), (1, 2, 2)]


def test_one_core_leaves_nothing_to_try_but_the_default():
    assert threads(OrtPerfTuningConfig(), 1) == [(0, 1, 1)]


def test_written_threads_modes_and_levels_are_obeyed():
    config = OrtPerfTuningConfig(
        execution_mode_list=(1,), intra_thread_num_list=(3,), inter_thread_num_list=(2, 4), opt_level_list=(0, 99)
    )

    assert threads(config, 8) == [(1, 3, 2), (1, 3, 4)] * 2
    assert [each["graph_optimization_level"] for each in settings_to_try(config, 8)] == [99, 99, 0, 0]


@given(st.integers(1, 64), st.booleans())
def test_no_setting_is_tried_twice_or_uses_more_threads_than_there_are(cores, sequential):
    config = OrtPerfTuningConfig(execution_mode_list=(0,) if sequential else None)
    tried = settings_to_try(config, cores)

    assert len({str(each) for each in tried}) == len(tried)
    assert all(each["intra_op_num_threads"] * each["inter_op_num_threads"] <= cores for each in tried)


def test_only_a_difference_beyond_doubt_counts_as_faster():
    noise = np.random.default_rng(0).normal(10, 1, size=(2, 16, 8))

    assert judge(noise)["faster"] is False
    assert judge(noise - np.array([0, 2])[:, None, None])["faster"] is True
    assert judge(noise + np.array([0, 2])[:, None, None])["faster"] is False


def test_what_is_saved_has_been_measured_and_has_won_or_is_the_default(converted, context):
    result = OrtPerfTuning(OrtPerfTuningConfig(cpu_cores=2)).run(converted, context)

    saved = result.model.inference_settings["session_options"]
    trials = result.report["trials"]
    winners = [trial["challenger"] for trial in trials if trial["faster"]]
    assert len(trials) == 2
    assert saved == (winners[-1] if winners else trials[0]["incumbent"])
    assert result.report["default_kept"] == (not winners)
    assert result.model.path == converted.path


def test_the_saved_settings_are_those_of_the_session_that_opens_it(converted, context):
    config = OrtPerfTuningConfig(cpu_cores=1, extra_session_config={"session.intra_op.allow_spinning": "0"})
    tuned = OrtPerfTuning(config).run(converted, context).model

    with context.open(tuned, {"threads": 2}) as session:
        options = session.live.get_session_options()

    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
