"""A small random BERT, open in PyTorch."""

from __future__ import annotations

import pytest
import torch
import transformers

from hfopt import TensorSpec
from hfopt_hf_model_loader.session import TorchSession


@pytest.fixture(scope="session")
def bert() -> TorchSession:
    """BertForSequenceClassification: 2 layers, hidden size 16, attention written out, seed 0."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40,
        max_position_embeddings=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        attn_implementation="eager",
    )
    ranges = {"input_ids": 30, "attention_mask": 2, "token_type_ids": 2}
    specs = tuple(
        TensorSpec(name=name, dtype="int64", axes=("batch_size", "sequence_length"), high=high)
        for name, high in ranges.items()
    )
    return TorchSession(transformers.BertForSequenceClassification(config).eval(), specs)
