"""A plugin without any framework, for `hfopt.testing.systems`: a model is a JSON file with the slope of a line.

Every kind of step is real, and takes milliseconds. It is loaded as a ``-p`` file, and so travels as a user's would.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from hfopt import (
    Accelerator,
    Batch,
    Component,
    Config,
    DataContainer,
    DataContext,
    Dataset,
    FetchContext,
    InputPath,
    MetricBackend,
    ModelHandle,
    ModelLoader,
    Pass,
    PassContext,
    PassResult,
    PreconditionFailed,
    Session,
    Statistic,
    TensorSpec,
    hookimpl,
)
from hfopt.api.arrays import Array, Feeds, Floats

__all__ = ["HEARTBEAT"]

HEARTBEAT = "heartbeat"
"""The file that a pass that never ends keeps writing."""


@hookimpl
def hfopt_model_loaders() -> list[Component]:
    return [Component("TestLine", f"{__name__}:Line", "y = slope * x")]


@hookimpl
def hfopt_data_containers() -> list[Component]:
    return [Component("TestPoints", f"{__name__}:Points", "x and the class of y")]


@hookimpl
def hfopt_metric_backends() -> list[Component]:
    return [Component("test_metrics", f"{__name__}:Metrics", "accuracy")]


@hookimpl
def hfopt_passes() -> list[Component]:
    return [
        Component("TestScale", f"{__name__}:Scale", "multiply the slope"),
        Component("TestBehave", f"{__name__}:Behave", "what goes wrong in steps"),
    ]


class LineConfig(Config):
    """Where the line is."""

    model_path: InputPath | None = Field(None, description="A JSON file with a slope.")


class Line(ModelLoader):
    """Opens a line."""

    Config = LineConfig

    def fetch(self, context: FetchContext) -> ModelHandle:
        assert self.config.model_path is not None
        path = Path(self.config.model_path)
        spec = TensorSpec(name="x", dtype="float64", axes=("batch_size",))
        return ModelHandle(type="TestLine", path=path, files=(path,), inputs=(spec,))

    def open(self, handle: ModelHandle, accelerator: Accelerator, settings: Mapping[str, Any]) -> Session:
        assert handle.path is not None
        return LineSession(json.loads(handle.path.read_text())["slope"])


class LineSession(Session):
    """A line that is open."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return {"y": self.slope * feeds["x"]}

    def bind(self, feeds: Feeds) -> Callable[[], None]:
        def call() -> None:
            time.sleep(0.0005)
            self.run(feeds)

        return call

    @property
    def live(self) -> object:
        return self


class PointsConfig(Config):
    """Where the points are."""

    data_file: InputPath = Field(description="A JSON list of [x, class].")


class Points(DataContainer):
    """Reads points."""

    Config = PointsConfig

    def prepare(self, context: DataContext) -> None:
        (context.folder / "points.json").write_bytes(Path(self.config.data_file).read_bytes())

    def open(self, folder: Path) -> Dataset:
        return PointSet(json.loads((folder / "points.json").read_text()))


class PointSet(Dataset):
    """Points, one in a batch."""

    def __init__(self, points: list[tuple[float, int]]) -> None:
        self.points = points

    def __len__(self) -> int:
        return len(self.points)

    def batches(self, rows: Sequence[int] | None = None, *, size: int | None = None) -> Iterator[Batch]:
        import numpy as np

        for row in range(len(self)) if rows is None else rows:
            x, label = self.points[row]
            yield Batch(np.array([row]), {"x": np.array([x])}, np.array([label]))

    def post_process(self, outputs: Feeds) -> Array:
        import numpy as np

        return (outputs["y"] > 1).astype(np.int64)


class MetricsConfig(Config):
    """No options."""


class Metrics(MetricBackend):
    """One metric, whatever it is called."""

    Config = MetricsConfig

    def statistic(self, name: str, config: Any) -> Statistic:
        return Accuracy()


class Accuracy(Statistic):
    """The share of equal classes."""

    def rows(self, predictions: Any, references: Any) -> Array:
        import numpy as np

        equal: Floats = (np.asarray(predictions) == np.asarray(references)).astype(np.float64)
        return equal[:, None]

    def value(self, sums: Floats, n: int) -> Floats:
        import numpy as np

        shares: Floats = np.asarray(sums)[..., 0] / n
        return shares


class ScaleConfig(Config):
    """How much."""

    factor: float = Field(1.0, description="Multiplies the slope.")
    megabytes: int = Field(0, description="Of a file that the model has besides.")


class Scale(Pass):
    """Multiplies the slope, and says so on stdout and stderr."""

    Config = ScaleConfig
    accepts = frozenset({"TestLine"})

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        assert model.path is not None
        print(f"scaled by {self.config.factor}")
        print(f"scaled by {self.config.factor}, too", file=sys.stderr)
        for part in range(4):
            context.progress("scaling", part + 1, 4)
            time.sleep(0.11)  # progress is told ten times a second at most
        sizes = [file.stat().st_size for file in model.files]
        line, beside = context.folder / "line.json", context.folder / "beside.bin"
        line.write_text(json.dumps({"slope": json.loads(model.path.read_text())["slope"] * self.config.factor}))
        files = [line]
        if self.config.megabytes:
            with open(beside, "wb") as stream:
                stream.truncate(self.config.megabytes * 2**20)
            files.append(beside)
        return PassResult(model.with_(path=line, files=tuple(files)), {"sizes": sizes})


class BehaveConfig(Config):
    """In which way."""

    how: str = Field(description="raise, refuse, crash, kill, wait, scribble, fill or tell.")


class Behave(Pass):
    """Fails in the way that is asked for, or tells what a step can see."""

    Config = BehaveConfig
    accepts = frozenset({"TestLine"})

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        how = self.config.how
        if how == "raise":
            raise ValueError("the line is crooked")
        if how == "refuse":
            raise PreconditionFailed("the line is too long", hint="make it shorter")
        if how == "crash":
            os.abort()
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while how == "wait":
            (context.folder / HEARTBEAT).write_text(str(time.time()))
            time.sleep(0.05)
        if how == "scribble":
            for file in model.files:
                file.chmod(0o644)
                file.write_text('{"slope": 7}')
        if how == "fill":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            (context.folder / "large").write_bytes(bytes(8192))
        told = context.folder / "environment.json"
        told.write_text(json.dumps(dict(os.environ)))
        return PassResult(model.with_(files=(*model.files, told)))
