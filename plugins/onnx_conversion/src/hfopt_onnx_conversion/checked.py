"""Passes that must not change what a model computes: the options, and the comparison with the model before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from hfopt import HfoptError, ModelHandle, PassContext, PreconditionFailed, TensorSpec
from hfopt_onnx_model.external import ExternalDataConfig

if TYPE_CHECKING:
    from hfopt.parity import Example

Parity = Literal["error", "warn", "off"]


class CheckedConfig(ExternalDataConfig):
    """Options of such a pass."""

    parity: Parity = Field(
        "error",
        description="What to do if outputs differ by more than 1e-4 of the largest (float16: 1e-2), plus 1e-5.",
    )


def outputs_before(
    context: PassContext, model: ModelHandle, specs: Sequence[TensorSpec], parity: Parity
) -> list[Example]:
    """What an ONNX model computes; nothing if that won't be compared."""
    from hfopt.parity import record

    if parity == "off":
        return []
    context.progress("parity", 0, None)
    with context.open(model, {}) as source:
        return record(source, specs)


def check(
    context: PassContext,
    model: ModelHandle,
    before: Sequence[Example],
    parity: Parity,
    *,
    half: bool = False,
    hint: str = "set parity to warn to keep it all the same, and see the report in the cache",
) -> dict[str, Any]:
    """Compare a new model with what the one before computed.

    :param before: nothing if they are not to be compared
    :param half: one of them computes in float16
    :return: a part of the pass's report
    :raises HfoptError: they differ, and the user has not allowed it
    """
    from hfopt.parity import HALF_RELATIVE, RELATIVE, compare, describe

    if not before:
        return {}
    context.progress("parity", 0, None)
    with context.open(model, {}) as candidate:
        report = compare(before, candidate, relative=HALF_RELATIVE if half else RELATIVE)
    if parity == "error" and not report["agree"]:
        raise HfoptError(f"the converted model computes something else: {describe(report)}", hint=hint)
    return {"parity": report}


def must_have(kind: str, name: str, names: Collection[str]) -> None:
    """A name that an option gives must be in the model.

    :raises PreconditionFailed: it is not, with the name that was probably meant
    """
    if name not in names:
        near = get_close_matches(name, sorted(names), 1)
        raise PreconditionFailed(
            f"the model has no {kind} named {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(names)) or 'none'}",
        )
