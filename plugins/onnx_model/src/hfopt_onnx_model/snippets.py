"""Python that runs a sentence through a model, for whoever gets a ``best/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hfopt import TensorSpec
from hfopt_onnx_model.filling import PAST

_YIELDED = ("input_ids", "attention_mask")
"""What every tokenizer yields."""
_STAND_INS: Mapping[str, str] = {
    "token_type_ids": 'encoded.get("token_type_ids", numpy.zeros_like(encoded["input_ids"]))',
    "position_ids": 'numpy.arange(encoded["input_ids"].shape[1])[None]',
    "decoder_input_ids": 'encoded["input_ids"][:, :1]',
}
"""What others are, in Python."""


def with_sentence(code: str, inputs: Sequence[TensorSpec]) -> str | None:
    """Code that opens a model, followed by a sentence; None if a sentence is not all that the model takes."""
    past = [spec for spec in inputs if spec.name.startswith(f"{PAST}.")]
    names = [spec.name for spec in inputs if spec not in past]
    if "input_ids" not in names or {*names} - {*_YIELDED, *_STAND_INS}:
        return None
    if any(len(spec.axes) != 2 for spec in inputs if spec.name == "input_ids"):
        return None
    lines = ['tokenizer = AutoTokenizer.from_pretrained(".")']
    lines += ['encoded = tokenizer("What a lovely film", return_tensors="np")']
    lines += [f"feeds = {{name: encoded[name] for name in {[name for name in _YIELDED if name in names]}}}"]
    lines += [f'feeds["{name}"] = {value}' for name, value in _STAND_INS.items() if name in names]
    if past:
        lines += [
            "for each in session.get_inputs():",
            f'    if each.name.startswith("{PAST}."):',
            "        sizes = [size if isinstance(size, int) else 0 for size in each.shape[1:]]",
            f"        feeds[each.name] = numpy.zeros([1, *sizes], numpy.{past[0].dtype})",
        ]
    lines += ["outputs = session.run(None, feeds)"]
    imports = ["import numpy"] if any("numpy." in line for line in lines) else []
    return "\n".join([*imports, "from transformers import AutoTokenizer", code, *lines])
