"""A small random BERT with a tokenizer, made here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """BertForSequenceClassification with 30 words and a WordPiece tokenizer over 8 of them."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    place = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "a", "film"]
    (place / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place)
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(vocab_size=30, **SIZES)).eval().save_pretrained(place)
    return place


@pytest.fixture
def broken(folder, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(folder, tmp_path / "model"))
