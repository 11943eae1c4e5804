"""A tokenizer with a labelled config, small and made here, and the way from params_config to prepared rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hfopt import DataContext, Dataset
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_data_containers.spellings import SpelledSection
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.container import HuggingfaceContainer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "##ly"]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A BERT tokenizer that takes 8 tokens, and the classes rotten and fresh."""
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=8).save_pretrained(folder)
    classes = {"label2id": {"rotten": 0, "fresh": 1}, "id2label": {"0": "rotten", "1": "fresh"}}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **classes}))
    return folder


@pytest.fixture
def prepare(tmp_path, model_folder) -> Callable[..., Dataset]:
    """Prepares a params_config in a folder of its own and opens the rows."""

    def prepared(folder="out", model=model_folder, progress=lambda *_: None, task="text-classification", **params):
        written = {"data_name": "csv", "data_files": "rows.csv", "label_cols": ["label"], **params}
        defaults = {"model_name": model and str(model), "task": task}
        filled = HuggingfaceContainer.read(SpelledSection(params_config=written), defaults).params
        problems = []
        config = validate(HuggingfaceContainerConfig, filled, (), problems, ConfigContext(tmp_path))
        assert problems == []
        revived = HuggingfaceContainerConfig.model_validate_json(json.dumps(config.model_dump(mode="json")))
        (tmp_path / folder).mkdir()
        HuggingfaceContainer(revived).prepare(DataContext(tmp_path / folder, progress))
        return HuggingfaceContainer(revived).open(tmp_path / folder)

    return prepared


@pytest.fixture
def write_csv(tmp_path) -> Callable[..., None]:
    """Writes texts and labels into a file beside the config."""

    def write(*rows, name="rows.csv", header="text,label"):
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    return write
