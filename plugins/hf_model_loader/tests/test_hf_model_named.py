"""Modules called by the names of their inputs, whatever shape their arguments have."""

from __future__ import annotations

from collections import namedtuple

import pytest

Pair = namedtuple("Pair", ["left", "right"])


@pytest.mark.parametrize("kind", [list, tuple, lambda items: Pair(*items)], ids=["list", "tuple", "namedtuple"])
def test_tensors_go_into_what_the_dummy_inputs_have_them_in(kind):
    import torch

    from hfopt_hf_model_loader.named import Call, named_module

    class Takes(torch.nn.Module):
        def forward(self, pair):
            assert type(pair) is type(dummy["pair"])
            return {"y": pair[0] - pair[1]}

    dummy = {"pair": kind([torch.tensor([5.0]), torch.tensor([3.0])])}
    call = Call.like(dummy, ("a", "b"))

    found = named_module(Takes(), call, ("y",))(a=torch.tensor([7.0]), b=torch.tensor([1.0]))

    assert found["y"].tolist() == [6.0]
