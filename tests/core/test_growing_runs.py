"""A run may grow: candidates are added while it goes on, and which is the result is a decision of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hfopt.config.checker import ConfiguredComponent
from hfopt.engine.record import Interrupted
from hfopt.engine.run import run
from hfopt.engine.strategy import Strategy, last_candidate


@pytest.fixture
def toy(project, monkeypatch):
    """Runs the toy project with a strategy."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("TOY_LOG", str(project.folder / "toy.log"))

    def run_with(strategy):
        return run(project.config, plugin_files=[project.plugin], strategy=strategy)

    return run_with


def with_factor(builder, branch, factor, figures=None, **more):
    """A candidate whose second pass has another factor."""
    passes = dict(builder.config.passes)
    chosen = passes["second"].component
    config = chosen.config.model_copy(update={"factor": factor})
    passes["second"] = replace(passes["second"], component=replace(chosen, config=config))
    return builder.candidate(branch, passes, figures or branch.candidates[0].figures, **more)


def growing(*factors, required=True):
    """Adds a candidate for each factor, the next when all before are settled."""
    left = list(factors)

    def more(builder, run):
        (branch,) = run.plan.branches
        settled = all(run.state.settled(step) for each in branch.candidates for step in each.steps())
        if not settled or not left:
            return []
        return [(branch, with_factor(builder, branch, left.pop(0), required=required))]

    return more


def accuracy(state, candidate):
    return state.manifests[candidate.scores[0]].metrics["accuracy-accuracy"].value


def most_accurate(branch, run):
    done = [each for each in branch.candidates if run.state.done(each.steps())]
    return max(done, key=lambda each: accuracy(run.state, each), default=None)


def test_candidates_are_added_while_a_run_goes_on_and_share_what_they_have_in_common(toy, project):
    record = toy(Strategy(more=growing(0.5, 0.25)))

    (result,) = record.results
    assert [each["status"] for each in result["candidates"]] == ["succeeded"] * 3
    assert result["best"] == result["candidates"][-1]["id"]
    assert [line for line in project.executed if line.startswith("Scale")] == [
        "Scale 2.0", "Scale 0.75", "Scale 0.5", "Scale 0.25",
    ]  # fmt: skip


def test_which_candidate_is_the_result_is_a_decision_of_its_own(toy, project):
    record = toy(Strategy(more=growing(0.5, 0.25), best=most_accurate))

    (result,) = record.results
    values = {each["id"]: each["metrics"]["accuracy-accuracy"]["value"] for each in result["candidates"]}
    assert len(set(values.values())) > 1
    assert result["best"] == max(values, key=values.__getitem__)
    best = next(each for each in result["candidates"] if each["id"] == result["best"])
    model = (project.folder / "hfopt-output" / "best" / "model.json").read_text()
    assert any(step["key"] in model for step in best["steps"])


def test_one_failed_candidate_need_not_fail_the_run(toy):
    def more(builder, run):
        (branch,) = run.plan.branches
        if len(branch.candidates) > 1:
            return []
        registered = builder.plugins.find("hfopt_passes", "Misbehave")
        refusing = ConfiguredComponent(registered, registered.load(), registered.load().Config(how="refuse"))
        passes = {**builder.config.passes, "second": replace(builder.config.passes["second"], component=refusing)}
        return [(branch, builder.candidate(branch, passes, branch.candidates[0].figures, required=False))]

    record = toy(Strategy(more=more, best=lambda branch, run: branch.candidates[0]))

    (result,) = record.results
    assert record.status == "succeeded"
    assert [each["status"] for each in result["candidates"]] == ["succeeded", "failed"]
    assert result["candidates"][1]["error"]["message"] == "this line is crooked"


def test_what_was_given_up_with_one_candidate_is_run_for_a_later_one(toy, project):
    (project.folder / "bare.json").write_text("[[1.0, null]]")
    bare = {"name": "bare", "type": "Points", "params_config": {"data_file": "bare.json"}}
    project.config["data_configs"].append(bare)

    def more(builder, run):
        (branch,) = run.plan.branches
        settled = all(run.state.settled(step) for each in branch.candidates for step in each.steps())
        if not settled or len(branch.candidates) == 3:
            return []
        figures = branch.candidates[0].figures
        if len(branch.candidates) == 1:  # the first can't be scored, and its passes are given up
            figures = tuple(replace(each, data=each.data and "bare") for each in figures)
        return [(branch, with_factor(builder, branch, 0.5, figures, required=False))]

    record = toy(Strategy(more=more))

    (result,) = record.results
    assert [each["status"] for each in result["candidates"]] == ["succeeded", "failed", "succeeded"]
    assert result["candidates"][1]["error"]["message"] == "the data has no labels"
    assert [line for line in project.executed if line.startswith("Scale")] == ["Scale 2.0", "Scale 0.75", "Scale 0.5"]


def test_an_interrupt_while_candidates_are_added_is_recorded(toy, monkeypatch):
    def interrupted(steps, system):
        raise KeyboardInterrupt

    def more(builder, run):
        (branch,) = run.plan.branches
        monkeypatch.setattr("hfopt.engine.driver.resolve_references", interrupted)
        return [(branch, with_factor(builder, branch, 0.5))]

    with pytest.raises(Interrupted) as caught:
        toy(Strategy(more=more))

    (result,) = caught.value.record.results
    assert len(result["candidates"]) == 1


def test_a_run_without_a_result_fails_whatever_was_tried(toy):
    assert toy(Strategy(best=lambda branch, run: None)).status == "failed"


def test_a_finished_search_repeats_nothing(toy, project):
    toy(Strategy(more=growing(0.5, 0.25)))
    executed = list(project.executed)

    record = toy(Strategy(more=growing(0.5, 0.25), best=last_candidate))

    assert project.executed == executed
    assert len(record.results[0]["candidates"]) == 3
    assert all(step["cached"] for each in record.results[0]["candidates"] for step in each["steps"])
