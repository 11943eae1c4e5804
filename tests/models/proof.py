"""That an architecture converts, is fused and quantized: compared with PyTorch, without what hfopt says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import Architecture

from hfopt import Accelerator, FetchContext, ModelHandle, PassContext, Session
from hfopt.api.example import BATCH_AXIS, MASK, example_feeds
from hfopt.api.parity import Parity
from hfopt.api.text import counts
from hfopt.testing import run_compared
from hfopt_hf_model_loader.loader import PyTorchModel
from hfopt_onnx_conversion.conversion import OnnxConversion
from hfopt_onnx_model.composite import CompositeModel
from hfopt_onnx_model.loader import ONNXModel
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.quantization import OnnxQuantization

SHAPES = ((1, 9, False), (3, 20, False), (3, 14, True))
"""Rows, length, whether rows are padded."""
RELATIVE, ABSOLUTE = 1e-4, 1e-5
LOADERS = {"PyTorchModel": PyTorchModel, "ONNXModel": ONNXModel, "CompositeModel": CompositeModel}
STEPS = (
    (OnnxConversion, {}),
    (OrtTransformersOptimization, {}),
    (OnnxQuantization, {"quant_mode": "dynamic", "weight_type": "QUInt8"}),
)


def proof(architecture: Architecture, folder: Path) -> str:
    """Take a small random model through all passes.

    :return: its line in docs/reference/architectures.md
    :raises AssertionError: a float model computes something else than PyTorch does, on any shape
    """
    architecture.save(folder / "model")
    return proved(folder / "model", architecture.task, folder)


def proved(model: Path, task: str, folder: Path) -> str:
    """The same of a model in a folder."""
    config = PyTorchModel.Config.model_validate({"model_path": str(model), "hf_config": {"task": task}}, strict=False)
    handle = PyTorchModel(config).fetch(FetchContext(folder, lambda *_: None))
    shapes = [_feeds(handle, *shape, seed=seed) for seed, shape in enumerate(SHAPES)]
    name, expected = _torch(model, task, shapes)
    reports = []
    for work, options in STEPS:
        place = folder / work.__name__
        place.mkdir()
        context = PassContext(place, Accelerator(), 1, 0, {}, _open, None, lambda *_: None)
        chosen = work(work.Config(**options))
        result = run_compared(chosen, handle, context, Parity() if work.keeps_outputs else None)
        handle = result.model
        reports.append(result.report)
        outputs = [_onnxruntime(handle, feeds) for feeds in shapes]
        if work.keeps_outputs:
            for feeds, ours, theirs in zip(shapes, outputs, expected, strict=True):
                _compare(feeds, ours, theirs)
    fused, quantized = _total(reports[1], "fused"), _total(reports[2], "quantized")
    done = f"{counts(fused) if fused else 'left as it is'} | {counts(quantized)}"
    inputs = ", ".join(spec.name for spec in handle.inputs)
    return f"| {name} | {task} | {inputs} | {', '.join(outputs[0])} | {done} |"


def _open(handle: ModelHandle, settings: Mapping[str, Any]) -> Session:
    loader = LOADERS[handle.type]
    config = loader.Config.model_validate_json(json.dumps(handle.config))
    return loader(config).open(handle, Accelerator(), {"threads": 1, **settings})


def _feeds(handle: ModelHandle, batch: int, length: int, padded: bool, *, seed: int) -> dict[str, np.ndarray]:
    axes = {axis for spec in handle.inputs for axis in spec.axes if isinstance(axis, str)}
    sizes = dict.fromkeys(axes, length) | {BATCH_AXIS: batch}
    return example_feeds(handle.inputs, sizes, padded=padded, seed=seed)


def _torch(model: Path, task: str, shapes: list[dict[str, np.ndarray]]) -> tuple[str, list[dict[str, np.ndarray]]]:
    """The class that transformers loads by itself, and what it computes."""
    import transformers

    from hfopt_hf_model_loader.tasks import TASKS

    for auto in TASKS[task]:
        try:
            loaded = getattr(transformers, auto).from_pretrained(model, attn_implementation="eager").eval()
            break
        except (AttributeError, ValueError):  # not in this release, or of another kind of model
            continue
    with torch.inference_mode():
        found = [loaded(**{name: torch.from_numpy(each) for name, each in feeds.items()}) for feeds in shapes]
    kept = [{name: each.numpy() for name, each in one.items() if isinstance(each, torch.Tensor)} for one in found]
    return type(loaded).__name__, kept


def _total(report: Mapping[str, Any], key: str) -> dict[str, int]:
    """Operators that a pass has made, in all parts of a model."""
    total: dict[str, int] = {}
    for each in report.get("components", {"": report}).values():
        total = {name: total.get(name, 0) + each[key].get(name, 0) for name in (*total, *each[key])}
    return total


def _onnxruntime(model: ModelHandle, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime alone computes; of parts that write, the last token's logits by the one with a past."""
    if not model.components:
        return _run(model, feeds)
    encoder, first, later = (
        model.components[name] for name in ("encoder_model", "decoder_model", "decoder_with_past_model")
    )
    states = _run(encoder, feeds)["last_hidden_state"]
    read = {"encoder_hidden_states": states, "encoder_attention_mask": feeds.get(MASK)}
    ids = feeds["decoder_input_ids"]
    found = _run(first, {**read, "input_ids": ids[:, :-1]})
    past = {name.replace("present", "past_key_values"): each for name, each in found.items() if "." in name}
    last = _run(later, {**read, **past, "input_ids": ids[:, -1:]})
    logits = np.concatenate([found["logits"], last["logits"]], axis=1)
    return {"logits": logits, "encoder_last_hidden_state": states}


def _run(model: ModelHandle, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(
        zip(names, session.run(names, {each.name: feeds[each.name] for each in session.get_inputs()}), strict=True)
    )


def _compare(feeds: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        found, mask = ours[name], feeds.get(MASK)
        if mask is not None and expected.shape[: mask.ndim] == mask.shape:
            found, expected = found[mask.astype(bool)], expected[mask.astype(bool)]
        assert found.shape == expected.shape
        most = RELATIVE * np.abs(expected).max() + ABSOLUTE
        assert np.abs(found - expected).max() <= most, name
