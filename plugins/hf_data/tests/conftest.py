"""A tokenizer and a labelled config, small and made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=8).save_pretrained(folder)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "label2id": {"rotten": 0, "fresh": 1}, "id2label": {"0": "rotten"}})
    )
    return folder
