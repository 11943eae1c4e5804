"""Components that are functions of the user's: what they are told, what they may return, what a user is told else."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hfopt import DataContext, PreconditionFailed
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_hf_data.container import HuggingfaceContainer

SCRIPT = """
import datasets
import numpy as np
import torch

ROWS = [{"text": text, "label": label} for text, label in (("good film", 1), ("bad", 0), ("a bad film", 0))]

@Registry.register_dataset("films")
def load(data_name, split=None, twice=False):
    assert (data_name, split) == ("my/films", None)
    return ROWS * (2 if twice else 1)

def dataset(): return datasets.Dataset.from_list(ROWS).with_format("torch")
def splits(): return datasets.DatasetDict(train=dataset())
def stream(): return dataset().to_iterable_dataset()
def pairs(): return [({"x": 1.0}, 0)]

@Registry.register_pre_process()
def lengths(rows, input_cols, model_name, max_samples=None):
    assert model_name.endswith("model") and max_samples is None
    return [({"length": np.array([len(row[input_cols[0]])])}, row["label"]) for row in rows]

@Registry.register_dataloader("padded")
def loader(rows, batch_size, filler=0):
    def together(some):
        longest = max(len(inputs["input_ids"]) for inputs, _ in some)
        ids = [[*inputs["input_ids"], *[filler] * (longest - len(inputs["input_ids"]))] for inputs, _ in some]
        return {"input_ids": torch.tensor(ids)}, torch.tensor([label for _, label in some])
    return torch.utils.data.DataLoader(rows, batch_size, collate_fn=together)

@Registry.register_post_process("second")
def post(output, least=0.0):
    return output[:, 1] > least
"""
COLUMNS = {"input_cols": ["text"], "label_cols": ["label"]}
CSV = {"data_name": "csv", "data_files": "rows.csv", **COLUMNS}


@pytest.fixture
def prepare(tmp_path, model_folder, write_csv):
    (tmp_path / "s.py").write_text(SCRIPT)
    write_csv(("good film", 1), ("bad", 0), ("a bad film", 0))

    def prepared(model=model_folder, **entry):
        section = HuggingfaceContainer.Section.model_validate_json(json.dumps({"user_script": "s.py", **entry}))
        read = HuggingfaceContainer.read(section, {"model_name": str(model), "task": "text-classification"})
        problems = list(read.problems)
        config = validate(HuggingfaceContainer.Config, dict(read.params), (), problems, ConfigContext(tmp_path))
        assert problems == []
        container = HuggingfaceContainer(type(config).model_validate_json(config.model_dump_json()))
        (tmp_path / "out").mkdir()
        container.prepare(DataContext(tmp_path / "out", lambda *_: None))
        return container.open(tmp_path / "out")

    return prepared


def rows_of(data):
    return [(batch.feeds["input_ids"].tolist(), batch.labels.tolist()) for batch in data.batches()]


NAMED, TWICE = {"data_name": "my/films"}, {"twice": True}
OLDER = {
    "components": {"load_dataset": {"type": "films", "params": TWICE}},
    "params_config": {**NAMED, **COLUMNS},
}
NEWER = {"load_dataset_config": {"type": "films", **TWICE, **NAMED}, "pre_process_data_config": COLUMNS}


@pytest.mark.parametrize("entry", [OLDER, NEWER], ids=["0.6.1", "0.6.2"])
def test_rows_that_a_function_loads_are_tokenised(prepare, entry):
    assert rows_of(prepare(**entry)) == 2 * [([[2, 5, 7, 3]], [1]), ([[2, 6, 3]], [0]), ([[2, 8, 6, 7, 3]], [0])]


@pytest.mark.parametrize(("function", "options"), [("dataset", {}), ("splits", {"split": "train"}), ("stream", {})])
def test_a_function_may_load_what_datasets_has(prepare, function, options):
    data = prepare(load_dataset_config={"type": function}, params_config={**COLUMNS, "max_samples": 2, **options})

    assert rows_of(data) == [([[2, 5, 7, 3]], [1]), ([[2, 6, 3]], [0])]


def test_a_function_makes_inputs_of_rows_without_a_tokenizer(prepare, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    data = prepare(
        tmp_path / "model", params_config={**CSV, "batch_size": 2}, pre_process_data_config={"type": "lengths"}
    )

    found = [(batch.feeds["length"].tolist(), batch.labels.tolist()) for batch in data.batches()]
    assert found == [([[9], [3]], [1, 0]), ([[10]], [0])]


def test_a_function_batches_what_the_tokenizer_makes(prepare):
    loader = {"dataloader": {"type": "padded", "params": {"filler": 9}}}
    (first, second) = prepare(components=loader, params_config={**CSV, "batch_size": 2}).batches()

    assert first.feeds["input_ids"].tolist() == [[2, 5, 7, 3], [2, 6, 3, 9]]
    assert (second.feeds["input_ids"].tolist(), second.labels.tolist()) == ([[2, 8, 6, 7, 3]], [0])


class Session:
    """Three rows of scores, whatever is fed."""

    def run(self, feeds):
        return {"logits": np.array([[0, 1], [0, -1], [0, 9]], dtype=np.float32)}


@pytest.mark.parametrize(("least", "said"), [({}, [True, False, True]), ({"least": 5}, [False, False, True])])
def test_a_function_makes_predictions_of_outputs(prepare, least, said):
    data = prepare(post_process_data_config={"type": "second", **least}, params_config={**CSV, "batch_size": 3})

    (batch,) = data.batches()
    assert data.predict(Session(), batch).tolist() == said


@pytest.mark.parametrize(
    ("entry", "message", "hint"),
    [
        (
            {"load_dataset_config": {"type": "pairs"}},
            "{script}: pairs: returns a list, and the tokenizer needs rows with columns",
            "return a dataset or a list of dicts, or name a function for pre_process_data too",
        ),
        (
            {"load_dataset_config": {"type": "splits"}},
            "{script}: splits: returns several splits: train",
            "set split to one of them",
        ),
        (
            {"load_dataset_config": {"type": "stream"}},
            "{script}: stream: returns a stream",
            "set max_samples: so many rows are read",
        ),
        ({"load_dataset_config": {"type": "film"}}, "{script} has no function 'film'", "did you mean 'films'?"),
        (
            {"post_process_data_config": {"type": "second"}, "params_config": {**CSV, "leest": 1}},
            "no function of {script} takes 'leest', an option in params_config",
            "did you mean 'least'?",
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_told(prepare, tmp_path, entry, message, hint):
    with pytest.raises(PreconditionFailed) as failed:
        prepare(**entry)

    assert (failed.value.message, failed.value.hint) == (message.format(script=tmp_path / "s.py"), hint)


def test_a_function_needs_a_script():
    section = HuggingfaceContainer.Section(components={"load_dataset": {"type": "films"}})

    (problem,) = HuggingfaceContainer.read(section, {}).problems

    assert problem.path == ("components", "load_dataset", "type")
    assert problem.message == "no load_dataset component named 'films'; there is huggingface_dataset"


def test_only_predictions_of_a_function_need_its_script():
    def needs(**types):
        functions = {component: {"name": name} for component, name in types.items()}
        written = {"data_name": "csv", "data_files": "f", "functions": functions}
        return HuggingfaceContainer(HuggingfaceContainer.Config.model_validate(written)).predicts_with_paths

    assert needs(post_process_data="second")
    assert not needs(load_dataset="films")
