"""What a model of text takes and data lack: a mask, segments, positions, an empty past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, TensorSpec
from hfopt.api.example import MASK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[Any]]

PAST = "past_key_values"
BRANCH = "use_cache_branch"
"""Whether a graph of both is to take the branch of tokens that come after others."""


def named(feeds: Feeds, specs: Sequence[TensorSpec]) -> Feeds:
    """Feeds by the names of a model's inputs: those that have none are called by their position."""
    if any(spec.name in feeds for spec in specs) or not all(name.isdigit() for name in feeds):
        return feeds
    return {spec.name: feeds[str(position)] for position, spec in enumerate(specs) if str(position) in feeds}


def missing(spec: TensorSpec, feeds: Feeds) -> NDArray[Any]:
    """An input that the data lack: all tokens count, in one segment, from position 0 on; nothing came before them.

    :raises PreconditionFailed: it is another
    """
    import numpy as np

    if spec.name == BRANCH:
        return np.array([_past(feeds) is not None])
    ids = feeds.get("input_ids")
    if ids is not None and spec.name == MASK:
        return np.ones((*ids.shape[:-1], _past_length(feeds) + ids.shape[-1]), ids.dtype)
    if ids is not None and spec.name == "token_type_ids":
        return np.zeros_like(ids)
    if ids is not None and spec.name == "position_ids":
        return _positions(ids, feeds)
    if ids is not None and spec.name.startswith(f"{PAST}."):
        sizes = (axis if isinstance(axis, int) else 0 for axis in spec.axes[1:])
        return np.zeros((len(ids), *sizes), spec.dtype)
    if (read := _encoded(feeds)) is not None and spec.name == f"encoder_{MASK}":
        return np.ones(read, spec.dtype)
    if read is not None and spec.name == "encoder_hidden_states":  # which only a first step reads
        return np.zeros((*read, *(axis for axis in spec.axes[2:] if isinstance(axis, int))), spec.dtype)
    raise PreconditionFailed(f"the data have no {spec.name!r}, which the model takes; they have {', '.join(feeds)}")


def _encoded(feeds: Feeds) -> tuple[int, int] | None:
    """How many rows an encoder has read, and of how many states; None if it has read none."""
    if (states := feeds.get("encoder_hidden_states")) is not None:
        return states.shape[0], states.shape[1]
    kept = feeds.get(f"{PAST}.0.encoder.key")
    return None if kept is None else (kept.shape[0], kept.shape[2])


def _past(feeds: Feeds) -> NDArray[Any] | None:
    """What is kept of earlier tokens by some layer, [batch, heads, tokens, width]; None if nothing is given."""
    return next((past for name, past in feeds.items() if name.startswith(f"{PAST}.")), None)


def _past_length(feeds: Feeds) -> int:
    """How many tokens came before."""
    past = _past(feeds)
    return 0 if past is None else past.shape[2]


def _positions(ids: NDArray[Any], feeds: Feeds) -> NDArray[Any]:
    """Of the tokens: counted from the first that the mask lets count."""
    import numpy as np

    length, mask = ids.shape[-1], feeds.get(MASK)
    if mask is None or mask.ndim != ids.ndim:
        return np.broadcast_to(np.arange(length) + _past_length(feeds), ids.shape)
    counted: NDArray[Any] = np.cumsum(mask, axis=-1)[..., -length:] - 1
    return np.maximum(counted, 0)
