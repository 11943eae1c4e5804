"""How well a model predicts texts: against PyTorch's own cross entropy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hfopt import Batch, PreconditionFailed, TensorSpec
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.next_tokens import NextTokens
from hfopt_hf_model_loader.session import TorchSession

AXES = ("batch_size", "sequence_length")
TAKEN = [TensorSpec(name=name, dtype="int64", axes=AXES) for name in ("input_ids", "attention_mask")]


@pytest.fixture(scope="module")
def decoder():
    """A small GPT-2 of random weights, whose predictions differ much."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    for weight in model.parameters():
        weight.data.mul_(8)
    return TorchSession(model, TAKEN)


def always(logits):
    """A model that returns the same whatever it gets."""
    import torch

    class Always(torch.nn.Module):
        def forward(self, **_):
            return {"logits": torch.tensor(logits)}

    return TorchSession(Always(), TAKEN)


def opened(folder, size=None):
    return NextTokens(folder, HuggingfaceContainerConfig.model_construct(batch_size=size))


@pytest.fixture
def texts(tmp_path):
    """Rows of random tokens as they are stored, with what is context of each."""
    import pyarrow

    draw = np.random.default_rng(0)
    lengths, seen = [7, 1, 12, 2, 12], [0, 0, 5, 2, 12]
    rows = [draw.integers(0, 50, length).astype(np.int32).tolist() for length in lengths]
    schema = pyarrow.schema({"input_ids": pyarrow.list_(pyarrow.int32()), "seen": pyarrow.int32()})
    columns = [pyarrow.array(values, kind) for values, kind in zip((rows, seen), schema.types, strict=True)]
    with pyarrow.ipc.new_file(str(tmp_path / "rows.arrow"), schema) as writer:
        writer.write_batch(pyarrow.record_batch(columns, schema=schema))
    (tmp_path / "layout.json").write_text(json.dumps({"fillers": {"input_ids": 0}, "side": "right", "width": None}))
    return tmp_path


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_row_yields_the_sum_of_pytorchs_cross_entropy_and_how_many_tokens_count(decoder, texts, size):
    import torch

    data = opened(texts, size)

    for batch in data.batches():
        found = data.predict(decoder, batch)

        logits = torch.tensor(decoder.run(batch.feeds)["logits"], dtype=torch.float64)
        for row, labels in enumerate(torch.tensor(batch.labels)):
            expected = torch.nn.functional.cross_entropy(logits[row, :-1], labels[1:], reduction="sum")
            assert found[row, 0] == pytest.approx(expected.item(), rel=1e-6, abs=1e-12)
            assert found[row, 1] == (labels[1:] != -100).sum()
        assert found.dtype == np.float64


def test_rows_say_the_same_alone_and_in_company(decoder, texts):
    alone, together = (opened(texts, size) for size in (None, 5))

    apart = np.concatenate([alone.predict(decoder, batch) for batch in alone.batches()])
    (batch,) = together.batches()

    assert together.predict(decoder, batch) == pytest.approx(apart, rel=1e-5)
    assert apart[:, 1].tolist() == [6, 0, 7, 0, 0]
    assert alone.lengths() is together.lengths() is None


def test_the_loss_is_that_which_the_model_itself_computes(decoder, texts):
    import torch

    data = opened(texts, None)
    batch = next(data.batches([2]))

    total, tokens = data.predict(decoder, batch)[0]

    feeds = {name: torch.tensor(value) for name, value in batch.feeds.items()}
    with torch.inference_mode():
        own = decoder.live(**feeds, labels=torch.tensor(batch.labels))
    assert total / tokens == pytest.approx(own.loss.item(), rel=1e-6)


def test_outputs_that_are_no_logits_of_tokens_are_refused(texts):
    data = opened(texts, None)

    with pytest.raises(PreconditionFailed, match=r"the model yields \[1, 2\], not logits for every token of \[1, 7\]"):
        data.predict(always(np.zeros((1, 2))), next(data.batches()))


def test_outputs_that_are_not_numbers_are_refused(texts):
    data = opened(texts, None)
    batch: Batch = next(data.batches())

    with pytest.raises(PreconditionFailed, match=r"not numbers \(NaN\) for some tokens of a row"):
        data.predict(always(np.full((1, 7, 50), np.nan)), batch)
