"""Prepared rows whose predictions are what a function of the user's makes of a model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hfopt import Batch, Dataset, PreconditionFailed, Session
from hfopt.api.arrays import Array, Integers
from hfopt_data_containers.loading import array_of


class Processed(Dataset):
    """Prepared rows.

    :param rows: what is fed, and labels
    :param process: the function; None: predictions are as the rows have them
    :param what: it is, for messages
    """

    def __init__(self, rows: Dataset, process: Callable[[Any], Any] | None, what: str) -> None:
        self._rows, self._process, self._what = rows, process, what

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, rows: Sequence[int] | None = None, *, size: int | None = None) -> Iterator[Batch]:
        return self._rows.batches(rows, size=size)

    def lengths(self) -> Integers | None:
        return self._rows.lengths()

    def predict(self, session: Session, batch: Batch) -> Array | Sequence[Array]:
        found = super().predict(session, batch)
        if len(found) != len(batch.rows):
            what = "the model" if self._process is None else self._what
            raise PreconditionFailed(f"{what} yields {len(found)} predictions for {len(batch.rows)} rows of a batch")
        return found

    def post_process(self, outputs: Mapping[str, Array]) -> Array:
        if self._process is None:
            return self._rows.post_process(outputs)
        return array_of(self._process(output_of(outputs)), f"what {self._what} returns")


class Outputs(dict[str, Any]):
    """Several outputs, by name, as attributes and by position, as transformers has them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"the model has no output {name!r}; it has {', '.join(self)}") from error

    def __getitem__(self, key: str | int) -> Any:
        return [*self.values()][key] if isinstance(key, int) else super().__getitem__(key)


def output_of(outputs: Mapping[str, Array]) -> Any:
    """What a model yields as a user's function takes it: a tensor; of several outputs `Outputs` of tensors."""
    import torch

    tensors = {name: torch.from_numpy(each.copy()) for name, each in outputs.items()}
    return next(iter(tensors.values())) if len(tensors) == 1 else Outputs(tensors)
