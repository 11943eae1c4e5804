"""Passes: what turns one model into another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from hfopt.api.arrays import Floats
from hfopt.api.config import Configured, ReportProgress
from hfopt.api.data import Dataset
from hfopt.api.forecast import Weights
from hfopt.api.model import Accelerator, ModelHandle, Session


@dataclass(frozen=True)
class PassContext:
    """What a pass gets besides its model.

    :param folder: empty; what the pass writes there becomes the step's artifact
    :param accelerator: what the model is meant for
    :param threads: CPU threads that the step may use
    :param seed: for anything random
    :param data: prepared rows, by the name under ``data_configs``
    :param open: opens any model handle: ``open(handle, settings)``
    :param compare: times two models against each other (see `hfopt.api.timing`), for passes that measure
    :param progress: ``progress(phase, done, total)``
    :param name: what the new model's file is to be called, its ending aside: ``model``, or the component's name
    """

    folder: Path
    accelerator: Accelerator
    threads: int
    seed: int
    data: Mapping[str, Dataset]
    open: Callable[[ModelHandle, Mapping[str, Any]], Session]
    compare: Callable[..., Floats]
    progress: ReportProgress
    name: str = "model"


@dataclass(frozen=True)
class PassResult:
    """What a pass made.

    :param model: the new model; its files lie in the context's folder, or are the input's if only settings changed
    :param report: JSON for people: fused operators, parity, trials. Shown when the pass has run: ``summary``, a few
        words; ``warning``, a sentence; ``snippet``, Python that does the same without hfopt
    :param tolerance: how far outputs may be from those of the model before, as a part of the largest, where they are
        compared: 1e-4 for another order of float32 operations, 1e-2 for float16
    """

    model: ModelHandle
    report: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-4

    def with_report(self, more: Mapping[str, Any], warning: str | None = None) -> PassResult:
        """The same, with more in its report, and perhaps one more warning."""
        warnings = [each for each in (self.report.get("warning"), warning) if each]
        told = {"warning": "; ".join(warnings)} if warnings else {}
        return replace(self, report={**self.report, **more, **told})


class Pass(Configured):
    """One way of making a model smaller or faster. It never decides where it runs.

    ``accepts`` names the model types it takes: with ``CompositeModel`` among them it gets such a model as a whole, else
    it runs for each of its components, in a folder of its own. ``produces`` is the type of what it makes, or of the
    components of that (None: that of its input). A pass that times models sets ``measures``: it runs on the target, and
    its key includes the machine. One whose result does not depend on ``context.accelerator`` sets
    ``accelerator_agnostic``: then it runs once for all accelerators. One whose model must compute what the one before
    does sets ``keeps_outputs``: then outputs are compared unless the user says otherwise (`hfopt.api.parity`).
    ``searchable`` has the values that a search tries of options that the config leaves unwritten, those that are known
    to be good first; those that don't go with others are refused by ``Config`` or told by its ``ignored``, and such
    points are left out. ``host`` is the system that it runs on unless the config names one for it, written as in a
    config: for packages that can't be installed beside the others'. ``memory`` has the bytes that the libraries take
    which `run` imports, by name, and how many ``copies`` of the model it holds at once: for `forecast`.
    """

    accepts: ClassVar[frozenset[str]]
    produces: ClassVar[str | None] = None
    measures: ClassVar[bool] = False
    accelerator_agnostic: ClassVar[bool] = False
    keeps_outputs: ClassVar[bool] = False
    searchable: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    memory: ClassVar[Mapping[str, float]] = {"copies": 2}
    host: ClassVar[Mapping[str, Any] | None] = None

    def requires(self, model: ModelHandle) -> None:
        """Check what `accepts` can't say.

        :raises PreconditionFailed: with the fact and what to change
        """

    def forecast(self, before: Weights) -> Weights:
        """What its model will be, as far as the options tell: by default as large as the one before.

        Called in the host, before anything has run.
        """
        return before

    @abstractmethod
    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        """Make the new model.

        :raises HfoptError: for a failure that the user can do something about
        """

    def assembled(self, result: PassResult, model: ModelHandle, context: PassContext) -> PassResult:
        """What becomes of a composite model when this pass has run for each of its components: by default nothing more.

        :param result: the composite model, with one report of all its components
        :param model: the one before
        """
        return result
