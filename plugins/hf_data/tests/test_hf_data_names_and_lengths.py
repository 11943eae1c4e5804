"""Which task a name means, and how long a row may be for a model."""

from __future__ import annotations

import json
import shutil

import pytest

from hfopt import PreconditionFailed
from hfopt_hf_data.tasks import SYNONYMS, TASKS, known_task
from hfopt_hf_model_loader import tasks as of_models


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("causal-lm", "text-generation"),
        ("causal-lm-with-past", "text-generation"),
        ("sequence-classification", "text-classification"),
        ("zero-shot-classification", "text-classification"),
        ("seq2seq-lm", "text2text-generation"),
        ("speech2seq-lm", "automatic-speech-recognition"),
        ("translation_en_to_de", "translation"),
        ("ner", "token-classification"),
    ],
)
def test_other_names_of_a_task_lead_to_it(name, task):
    assert known_task(name) == task


def test_every_name_of_a_task_means_the_same_to_data_and_to_models():
    ours = {name: known_task(name) for name in (*TASKS, *SYNONYMS)}
    theirs = {name: of_models.known_task(name) for name in ours if name != "zero-shot-classification"}
    assert theirs == {name: ours[name] for name in theirs}


@pytest.fixture
def short(tmp_path, model_folder):
    """A model with positions for 4 tokens, and a tokenizer that states no length."""
    folder = tmp_path / "short"
    shutil.copytree(model_folder, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": int(1e30)}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4}))
    return folder


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"max_length": 5}, ("max_length is 5, and the model takes at most 4 tokens", None)),
        (
            {"truncation": False},
            (
                "row 1 has 5 tokens, and the model takes at most 4",
                "set truncation to true, or leave such rows out",
            ),
        ),
    ],
)
def test_more_tokens_than_a_model_has_positions_are_told(prepare, write_csv, short, params, told):
    write_csv(("good film", 0), ("a good film", 1))

    with pytest.raises(PreconditionFailed) as failed:
        prepare(model=short, **params)

    assert (failed.value.message.rpartition("rows.csv: ")[2], failed.value.hint) == told


def test_a_row_is_cut_to_the_positions_of_the_model(prepare, write_csv, short):
    write_csv(("a good film", 1))

    (batch,) = prepare(model=short).batches()

    assert batch.feeds["input_ids"].shape == (1, 4)
