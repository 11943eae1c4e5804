"""Models of several parts that write: an encoder and the steps of a decoder, or these steps alone, as one session.

The names of parts, inputs and outputs are optimum's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfopt import HfoptError, ModelHandle, PassContext, Session, TensorSpec
from hfopt.api.example import BATCH_AXIS, MASK
from hfopt.api.parity import compare, describe, record
from hfopt_onnx_model.filling import PAST
from hfopt_onnx_model.generating import DECODER_IDS, following

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]

ENCODER, DECODER, LATER = "encoder_model", "decoder_model", "decoder_with_past_model"
"""Parts: what reads, what writes the first token, what writes a token after others."""
MERGED = "decoder_model_merged"
"""The last two in one graph."""
HIDDEN, STATES, STATES_MASK = "last_hidden_state", "encoder_hidden_states", "encoder_attention_mask"
"""What the encoder returns, and what the decoder calls it and its mask."""


def writes(parts: Collection[str]) -> bool:
    """Whether parts of these names are a whole model that writes."""
    return ({*parts} - {ENCODER}) in ({DECODER, LATER}, {MERGED})


def whole_inputs(parts: Mapping[str, Sequence[TensorSpec]]) -> tuple[TensorSpec, ...]:
    """What such a model takes as a whole, of what each part does."""
    if ENCODER not in parts:
        return tuple(parts[DECODER] if DECODER in parts else parts[MERGED])
    ids = TensorSpec(name=DECODER_IDS, dtype="int64", axes=(BATCH_AXIS, "decoder_sequence_length"))
    return (*parts[ENCODER], ids)


def check_later(source: ModelHandle, made: ModelHandle, tolerance: float, context: PassContext) -> None:
    """That what writes a token after others computes the same: a comparison of whole models does not run it.

    :param source: a part of the model before
    :param made: what came of it
    :param tolerance: of differences, relative to the largest value
    :raises HfoptError: it computes something else
    """
    with context.open(source, {}) as opened:
        examples = record(opened, source.inputs)
    with context.open(made, {}) as opened:
        found = compare(examples, opened, relative=tolerance)
    if not found["agree"]:
        raise HfoptError(f"{made.path.stem} computes something else: {describe(found)}")


class WritingSession(Session):
    """Takes what the whole model takes, and returns its logits and what it keeps.

    Fed with ``past_key_values.N...``, it goes on after those tokens, and its encoder has nothing to do.

    :param parts: open, by name; closed with it
    """

    def __init__(self, parts: Mapping[str, Session]) -> None:
        self._parts = dict(parts)
        self._encoder = parts.get(ENCODER)
        self._first, self._later = (parts[DECODER], parts[LATER]) if LATER in parts else (parts[MERGED],) * 2
        self.outputs = self._first.outputs
        self.inputs = whole_inputs({name: part.inputs for name, part in parts.items()})

    @property
    def rows_are_independent(self) -> bool:
        return all(part.rows_are_independent for part in self._parts.values())

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        continues = any(name.startswith(f"{PAST}.") for name in feeds)
        part = self._later if continues else self._first
        if self._encoder is None:
            return part.run(feeds)
        given = {name: each for name, each in feeds.items() if name.startswith(f"{PAST}.")}
        if DECODER_IDS in feeds:
            given["input_ids"] = feeds[DECODER_IDS]
        if MASK in feeds:
            given[STATES_MASK] = feeds[MASK]
        if not continues:
            given[STATES] = self._encoder.run(feeds)[HIDDEN]
        return part.run(given)

    def bind(self, feeds: Feeds) -> Callable[[], None]:
        def call() -> None:
            self.run(feeds)

        return call

    def bind_next(self, feeds: Feeds) -> Callable[[], None]:
        return self.bind(following(feeds, self.run(feeds)))

    @property
    def live(self) -> Any:
        """Each part's, by name."""
        return {name: part.live for name, part in self._parts.items()}

    def close(self) -> None:
        for part in self._parts.values():
            part.close()
