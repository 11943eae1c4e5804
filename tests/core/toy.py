"""A plugin without any framework, loaded with ``-p``: a "model" is a JSON file with the slope of a line.

What tests of the core run instead of torch: every kind of step is real, and takes milliseconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator

from hfopt import (
    Batch,
    Component,
    Config,
    DataContainer,
    DataName,
    Dataset,
    InputPath,
    MetricBackend,
    ModelHandle,
    ModelLoader,
    Pass,
    PassResult,
    PreconditionFailed,
    Reference,
    Resolved,
    Resource,
    Session,
    Statistic,
    TensorSpec,
    hookimpl,
)
from hfopt.api.config import ConfigContext, UnknownName
from hfopt.api.timing import Timed


def here(name):
    return f"{__name__}:{name}"


@hookimpl
def hfopt_model_loaders():
    return [Component("Line", here("LineLoader"), "y = slope * x")]


@hookimpl
def hfopt_data_containers():
    return [
        Component("Points", here("Points"), "x and the class of y"),
        Component("Pieces", here("Pieces"), "the same in batches, each row's prediction as long as y is large"),
    ]


@hookimpl
def hfopt_metric_backends():
    return [Component("toy_metrics", here("ToyMetrics"), "accuracy and the mean")]


@hookimpl
def hfopt_resources():
    return [Component("toy_place", here("Place"), "a line that lies elsewhere")]


@hookimpl
def hfopt_passes():
    return [
        Component("Scale", here("Scale"), "multiply the slope"),
        Component("Polish", here("Polish"), "multiply the slope by what should be 1"),
        Component("Retune", here("Retune"), "change settings only"),
        Component("Tune", here("Tune"), "time"),
        Component("Misbehave", here("Misbehave"), "fail in every way there is"),
        Component("Untidy", here("Untidy"), "return what passes must not"),
    ]


class LineConfig(Config):
    model_path: InputPath | None = Field(None, description="A JSON file with a slope.")
    place: str | None = Field(None, description="A folder elsewhere that holds line.json.")

    @field_validator("place")
    @classmethod
    def _refer(cls, place, info):
        validating = isinstance(info.context, ConfigContext)
        return Reference("toy_place", {"name": place}).token if place and validating else place


class PlaceConfig(Config):
    name: str = Field(description="A folder; its file `version` says which version of it is current.")


class Place(Resource):
    """A folder as a far place: what is asked of it is logged."""

    Config = PlaceConfig

    def resolve(self, context):
        count_run(f"resolve{' offline' if context.offline else ''}")
        try:
            version = Path(self.config.name, "version").read_text().strip()
        except FileNotFoundError:
            raise PreconditionFailed(f"there is no {self.config.name}", hint="go somewhere else") from None
        return Resolved(f"toy:{version}", version, f"{self.config.name}: version {version}")

    def fetch(self, pin, folder, context):
        count_run(f"fetch {pin}")
        (folder / "manifest.json").write_text("not the artifact's own")
        (folder / "line.json").write_text(Path(self.config.name, f"{pin}.json").read_text())
        return {"files": 2}


class LineLoader(ModelLoader):
    Config = LineConfig

    @classmethod
    def unavailable(cls, accelerator):
        return None if accelerator.execution_provider != "FarExecutionProvider" else "lines do not reach that far"

    def fetch(self, context):
        path = Path(self.config.place, "line.json") if self.config.place else Path(self.config.model_path)
        spec = TensorSpec(name="x", dtype="float64", axes=("batch_size",))
        return ModelHandle(type="Line", path=path, files=(path,), inputs=(spec,))

    def open(self, handle, accelerator, settings):
        return LineSession(json.loads(handle.path.read_text())["slope"], handle.inference_settings.get("delay", 0.0))

    def snippet(self, handle):
        time.sleep(float(os.environ.get("TOY_SNIPPET_SECONDS", "0")))  # in the host, while best/ is made
        return f"import json\n\nslope = json.load(open({handle.path.name!r}))['slope']"


class LineSession(Session):
    def __init__(self, slope, delay):
        self.slope, self.delay = slope, delay

    def run(self, feeds):
        if self.slope is None:
            raise PreconditionFailed("the line has no slope")
        return {"y": self.slope * feeds["x"]}

    def bind(self, feeds):
        def call():
            time.sleep(self.delay)
            self.run(feeds)

        return call

    @property
    def live(self):
        return self


class PointsConfig(Config):
    data_file: InputPath = Field(description="A JSON list of [x, class].")


class Points(DataContainer):
    Config = PointsConfig

    def prepare(self, context):
        points = json.loads(Path(self.config.data_file).read_text())
        (context.folder / "points.json").write_text(json.dumps(points))

    def open(self, folder):
        return PointSet(json.loads((folder / "points.json").read_text()))


class PointSet(Dataset):
    def __init__(self, points):
        self.points = points

    def __len__(self):
        return len(self.points)

    def batches(self, rows=None, *, size=None):
        for row in range(len(self)) if rows is None else rows:
            x, label = self.points[row]
            labels = None if label is None else np.array([label])
            yield Batch(np.array([row]), {"x": np.array([x], dtype=np.float64)}, labels)

    def post_process(self, outputs):
        return (outputs["y"] > 1).astype(np.int64)


class Pieces(Points):
    def open(self, folder):
        return PieceSet(json.loads((folder / "points.json").read_text()))


class PieceSet(PointSet):
    """Rows are as long as the whole part of x says, and a row's prediction is as long as its y."""

    def lengths(self):
        return np.array([int(x) for x, _ in self.points])

    def batches(self, rows=None, *, size=None):
        rows, size = list(range(len(self)) if rows is None else rows), size or 1
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            xs, labels = zip(*(self.points[row] for row in some), strict=True)
            yield Batch(np.array(some), {"x": np.array(xs, dtype=np.float64)}, np.array(labels))

    def predict(self, session, batch):
        count_run(f"predict {sorted({int(x) for x in batch.feeds['x']})} of {len(batch.rows)}")
        return [np.arange(round(10 * y)) for y in session.run(batch.feeds)["y"]]


class ToyMetricsConfig(Config):
    """No options."""


class ToyMetrics(MetricBackend):
    Config = ToyMetricsConfig

    def statistic(self, name, config):
        known = {"accuracy": Accuracy, "mean": Mean, "length": Length}
        if name not in known:
            raise UnknownName("metric", name, sorted(known))
        return known[name]()


class Accuracy(Statistic):
    proportion = True
    unit = "proportion"

    def rows(self, predictions, references):
        return (predictions == references).astype(np.float64)[:, None]

    def value(self, sums, n):
        return sums[..., 0] / n


class Mean(Statistic):
    def rows(self, predictions, references):
        return predictions.astype(np.float64)[:, None]

    def value(self, sums, n):
        return sums[..., 0] / n


class Length(Mean):
    """Of predictions that are arrays of different lengths."""

    def rows(self, predictions, references):
        return np.array([[len(each)] for each in predictions], dtype=np.float64)


class ScaleConfig(Config):
    factor: float = Field(1.0, description="Multiplies the slope.")
    seconds: float = Field(0.0, description="How long to take.")


def count_run(name):
    """One line per execution, for tests that say what must not run again."""
    if "TOY_LOG" in os.environ:
        with open(os.environ["TOY_LOG"], "a") as log:
            log.write(name + "\n")


@contextmanager
def logged_span(name):
    """Two lines, with the machine's clock, for tests that say what must not run at the same time."""
    with open(f"{os.environ.get('TOY_LOG', os.devnull)}.spans", "a") as log:
        print(time.monotonic(), "begin", name, file=log, flush=True)
        yield
        print(time.monotonic(), "end", name, file=log, flush=True)


def sleep_in_parts(seconds, progress, parts=5):
    for part in range(parts):
        time.sleep(seconds / parts)
        progress("scaling", part + 1, parts)


class Scale(Pass):
    Config = ScaleConfig
    accepts = frozenset({"Line"})

    def run(self, model, context):
        with logged_span(f"Scale {self.config.factor}"):
            sleep_in_parts(self.config.seconds, context.progress)
        slope = json.loads(model.path.read_text())["slope"] * self.config.factor
        target = context.folder / "line.json"
        target.write_text(json.dumps({"slope": slope}))
        count_run(f"Scale {self.config.factor}")
        return PassResult(model.with_(path=target, files=(target,)), {"slope": slope})


class Polish(Scale):
    """Says of itself that it changes nothing."""

    keeps_outputs = True


class RetuneConfig(Config):
    delay: float = Field(0.0, ge=0, description="Seconds that each call takes from now on.")
    unused: int = Field(0, description="Of no effect: there is nothing to use it for.")
    data_config: DataName | None = Field(None, description="Not used, only referred to.")

    def ignored(self) -> dict[str, str]:
        return dict.fromkeys(self.written("unused"), "there is nothing to use it for")


class Retune(Pass):
    Config = RetuneConfig
    accepts = frozenset({"Line"})

    def run(self, model, context):
        count_run(f"Retune {sorted(context.data)}")
        return PassResult(model.with_(inference_settings={"delay": self.config.delay}))


class TuneConfig(Config):
    seconds: float = Field(0.1, description="How long to time.")
    compare: bool = Field(False, description="Whether the model is timed against itself.")


class Tune(Pass):
    """Times, so that nothing else may run meanwhile."""

    Config = TuneConfig
    accepts = frozenset({"Line"})
    measures = True

    def run(self, model, context):
        with logged_span("Tune"):
            time.sleep(self.config.seconds)
        count_run("Tune")
        if self.config.compare:
            slow = Timed(model.with_(inference_settings={"delay": 0.05}))
            context.compare(slow, slow, [{"x": np.zeros(1)}], warmup=0, runs=8)
        return PassResult(model)


class MisbehaveConfig(Config):
    how: str = Field(description="One of the methods below.")


class Misbehave(Pass):
    Config = MisbehaveConfig
    accepts = frozenset({"Line"})

    def run(self, model, context):
        return PassResult(model, getattr(self, self.config.how)() or {})

    def segfault(self):
        ctypes.string_at(0)

    def exit(self):
        os._exit(7)

    def raise_(self):
        raise ZeroDivisionError("division by zero")

    def refuse(self):
        raise PreconditionFailed("this line is crooked", hint="straighten it")

    def print(self):
        print("noise on stdout")
        os.system("echo noise from a child")

    def log(self):
        logging.getLogger("toy").info("a fact")
        logging.getLogger("toy").error("a failure")

    def tell(self):
        return {"summary": "bent twice", "snippet": "import bend\n\nbend.twice()"}

    def warn(self):
        return {"warning": "nothing was bent"}

    def hang(self):
        time.sleep(3600)

    def hang_until_told(self):
        count_run("waits")
        while Path(f"{os.environ['TOY_LOG']}.hold").exists():
            time.sleep(0.02)

    def hang_in_native_code(self):
        count_run("native")
        ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the interpreter's lock: no thread of this process runs

    def crunch(self):
        count_run("native")
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # no signal ends it, and an interrupt waits behind it

    def hang_with_a_child(self):
        subprocess.Popen(["sleep", "3600"])
        self.hang()

    def use_the_token(self):
        once, again = (Path(os.environ["HF_TOKEN_PATH"]).read_text() for _ in range(2))
        child = subprocess.run(["cat", os.environ["HF_TOKEN_PATH"]], capture_output=True, check=False)
        print("token", hashlib.sha256(once.encode()).hexdigest(), once == again, child.stdout)

    def show_environment(self):
        print(dict(os.environ))


class UntidyConfig(Config):
    how: str = Field(description="One of the methods below.")


class Untidy(Pass):
    Config = UntidyConfig
    accepts = frozenset({"Line"})

    def run(self, model, context):
        count_run(f"Untidy {self.config.how}")
        return getattr(self, self.config.how)(model, context)

    def write_into_its_input(self, model, context):
        model.path.chmod(0o644)
        model.path.write_text(model.path.read_text().replace("slope", "SLOPE"))
        os.utime(model.path, ns=(1, 1))
        return PassResult(model)

    def write_into_its_input_and_fail(self, model, context):
        self.write_into_its_input(model, context)
        raise PreconditionFailed("and now it is too late")

    def shorten_its_input(self, model, context):
        model.path.chmod(0o644)
        model.path.write_text("{}")
        return PassResult(model)

    def touch_its_input(self, model, context):
        os.utime(model.path, ns=(1, 1))
        return PassResult(model)

    def name_a_file_that_is_not_there(self, model, context):
        gone = context.folder / "gone.json"
        return PassResult(model.with_(path=gone, files=(gone,)))

    def name_a_file_elsewhere(self, model, context):
        elsewhere = Path(__file__)
        return PassResult(model.with_(path=elsewhere, files=(elsewhere,)))

    def link_to_its_input(self, model, context):
        link = context.folder / "line.json"
        link.symlink_to(model.path)
        return PassResult(model.with_(path=link, files=(link,)))

    def write_beside_its_folder(self, model, context):
        beside = context.folder / ".." / "beside.json"
        beside.write_text(model.path.read_text())
        return PassResult(model.with_(path=beside, files=(beside,)))

    def quit(self, model, context):
        raise SystemExit(0)

    def change_its_input_and_die(self, model, context):
        model.path.chmod(0o644)
        model.path.write_text(model.path.read_text().replace("1.0", "9.0"))
        os._exit(9)

    def name_labels_like_places(self, model, context):
        return PassResult(model.with_(attributes={"labels": ["here: a", "input: b", "artifact: c", "text: d"]}))

    def return_a_string(self, model, context):
        return str(model.path)

    def return_nothing(self, model, context):
        pass

    def return_a_path_for_a_model(self, model, context):
        return PassResult(model.path)

    def make_another_type(self, model, context):
        return PassResult(model.with_(type="Curve"))
