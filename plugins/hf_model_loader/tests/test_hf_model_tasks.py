"""Tasks by all their names."""

from __future__ import annotations

import pytest

from hfopt.testing import validate
from hfopt_hf_model_loader.hf_config import HfConfig
from hfopt_hf_model_loader.tasks import SYNONYMS, TASKS


def read(**written):
    problems = []
    config = validate(HfConfig, written, (), problems)
    return config and config.task, [(".".join(map(str, each.path)), each.message, each.hint) for each in problems]


@pytest.mark.parametrize(
    ("written", "task"),
    [
        ("sequence-classification", "text-classification"),
        ("ner", "token-classification"),
        ("causal-lm-with-past", "text-generation"),
        ("translation_en_to_de", "translation"),
        ("zero-shot-classification", "zero-shot-classification"),
    ],
)
def test_a_task_is_known_by_all_its_names(written, task):
    assert read(task=written) == (task, [])
    assert read(feature=written) == (task, [])


def test_a_misspelt_task_is_answered_with_the_nearest():
    assert read(task="text-clasification")[1][0][2] == "did you mean 'text-classification'?"


def test_a_feature_that_is_of_another_task_is_refused():
    assert read(task="text-classification", feature="sequence-classification") == ("text-classification", [])
    assert read(task="summarization", feature="seq2seq-lm") == ("summarization", [])
    assert read(task="fill-mask", feature="causal-lm") == (
        None,
        [("feature", "is of text-generation, and task is fill-mask: leave feature out", None)],
    )


def test_every_task_of_the_pipelines_is_known_with_its_classes():
    from transformers.pipelines import SUPPORTED_TASKS, TASK_ALIASES

    classes = {task: {each.__name__ for each in how["pt"]} for task, how in SUPPORTED_TASKS.items() if how.get("pt")}
    known = {task: {*TASKS.get(SYNONYMS.get(task, task), ())} for task in classes}
    others = {"decision": {"AutoModelForImageTextToText", "AutoModelForCausalLM"}}  # prompted, without a head for it
    assert {task: found - known[task] - others.get(task, set()) for task, found in classes.items()} == {
        task: set() for task in classes
    }
    assert {name for name in TASK_ALIASES if name not in TASKS} <= SYNONYMS.keys()


def test_every_synonym_is_of_a_task_and_every_class_is_one_of_transformers():
    import transformers

    gone = {"AutoModelForVision2Seq"}  # in transformers 4 alone
    assert set(SYNONYMS.values()) <= TASKS.keys()
    assert not SYNONYMS.keys() & TASKS.keys()
    assert {name for names in TASKS.values() for name in names if not hasattr(transformers, name)} <= gone
