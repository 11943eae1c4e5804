"""OrtPerfTuning: the session options that run a model fastest on this machine.

Every setting is timed against the fastest so far, in alternating blocks, and replaces it only if the 95 % interval of
the difference says that it is faster: what is saved has been measured, and is the default unless something beat it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from hfopt import Config, DataName, ModelHandle, Pass, PassContext, PassResult
from hfopt.api.config import only
from hfopt.api.example import BATCH_AXIS, example_feeds
from hfopt.measuring import TIMED_ROWS, Timed, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Blocks = NDArray[np.float64]

_CPU_ONLY = "this version tunes for CPUExecutionProvider only"
_NO_SCRIPTS = "user scripts are not run in this version: name a data_config"
_NO_SHAPES = "not available in this version: name a data_config, whose rows have the lengths that matter"
EXAMPLE_LENGTH = 64
"""Size of every dynamic axis but the batch's where no data is named."""
TRIAL_MS = 4_000
MIN_RUNS, MAX_RUNS = 32, 256
PREHEAT = 5

ExecutionMode = Literal[0, 1]
GraphLevel = Literal[0, 1, 2, 99]
SEQUENTIAL, PARALLEL = 0, 1


class OrtPerfTuningConfig(Config):
    """Options of ``OrtPerfTuning``."""

    data_config: DataName | None = Field(
        None, description="Rows to time on, each at its own length; null: examples of 64 tokens."
    )
    batch_size: int = Field(1, ge=1, description="Of the examples, where no data is named.")
    cpu_cores: int | None = Field(None, ge=1, description="At most so many threads; null: the CPUs that may be used.")
    execution_mode_list: tuple[ExecutionMode, ...] | None = Field(
        None, description="0 sequential, 1 parallel; null: both."
    )
    opt_level_list: tuple[GraphLevel, ...] | None = Field(
        None, description="Graph optimization levels of the session; null: 99."
    )
    intra_thread_num_list: tuple[int | None, ...] = Field(
        (None,), description="Threads within an operator; [null]: halved from cpu_cores down to 1."
    )
    inter_thread_num_list: tuple[int | None, ...] = Field(
        (None,), description="Threads between operators in parallel mode; [null]: halved from cpu_cores down to 2."
    )
    extra_session_config: dict[str, str] | None = Field(None, description="Session config entries of every setting.")
    providers_list: Annotated[tuple[str, ...] | None, only(None, (), ("CPUExecutionProvider",), because=_CPU_ONLY)] = (
        Field(None, description="Execution providers to try.")
    )
    force_evaluate_other_eps: Annotated[bool, only(False, because=_CPU_ONLY)] = Field(
        False, description="Not available."
    )
    device: Annotated[str | None, only(None, "cpu", because=_CPU_ONLY)] = Field(None, description="cpu.")
    io_bind: bool = Field(False, description="Accepted either way: inputs are always bound before timing.")
    enable_cuda_graph: Annotated[bool, only(False, because=_CPU_ONLY)] = Field(False, description="Not available.")
    trt_fp16_enable: Annotated[bool, only(False, because=_CPU_ONLY)] = Field(False, description="Not available.")
    enable_profiling: Annotated[bool, only(False, because="profiling slows what is timed")] = Field(
        False, description="Not available."
    )
    data_dir: Annotated[None, only(None, because=_NO_SCRIPTS)] = Field(None, description="Not available.")
    dataloader_func: Annotated[str | None, only(None, because=_NO_SCRIPTS)] = Field(None, description="Not available.")
    dataloader_func_kwargs: Annotated[dict[str, Any] | None, only(None, {}, because=_NO_SCRIPTS)] = Field(
        None, description="Not available."
    )
    input_names: Annotated[tuple[str, ...] | None, only(None, because=_NO_SHAPES)] = Field(
        None, description="Not available."
    )
    input_shapes: Annotated[tuple[tuple[int, ...], ...] | None, only(None, because=_NO_SHAPES)] = Field(
        None, description="Not available."
    )
    input_types: Annotated[tuple[str, ...] | None, only(None, because=_NO_SHAPES)] = Field(
        None, description="Not available."
    )


class OrtPerfTuning(Pass):
    """Saves the fastest session options as the model's inference settings. The model's file stays as it is."""

    Config: ClassVar[type[Config]] = OrtPerfTuningConfig
    accepts = frozenset({"ONNXModel"})
    measures = True
    config: OrtPerfTuningConfig

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        feeds = self._feeds(model, context)
        cores = min(self.config.cpu_cores or context.threads, context.threads)
        default, *challengers = settings_to_try(self.config, cores)
        runs = self._runs(model, context, feeds[0])
        incumbent, trials = default, []
        for number, challenger in enumerate(challengers):
            context.progress("settings", number, len(challengers))
            blocks = context.compare(_timed(model, incumbent), _timed(model, challenger), feeds, runs=runs)
            trial = judge(blocks) | {"incumbent": incumbent, "challenger": challenger}
            trials.append(trial)
            if trial["faster"]:
                incumbent = challenger
        return PassResult(_timed(model, incumbent).model, {"trials": trials, "default_kept": incumbent == default})

    def _feeds(self, model: ModelHandle, context: PassContext) -> list[dict[str, NDArray[Any]]]:
        if self.config.data_config is not None:
            data = context.data[self.config.data_config]
            return [batch.feeds for batch in data.batches(spread(len(data), TIMED_ROWS))]
        axes = {axis for spec in model.inputs for axis in spec.axes if isinstance(axis, str)}
        sizes = {axis: self.config.batch_size if axis == BATCH_AXIS else EXAMPLE_LENGTH for axis in axes}
        return [example_feeds(model.inputs, sizes)]

    def _runs(self, model: ModelHandle, context: PassContext, feeds: dict[str, NDArray[Any]]) -> int:
        """As many runs as take about four seconds, in whole blocks of sixteen."""
        with context.open(model, {}) as session:
            call = session.bind(feeds)
            for _ in range(PREHEAT):
                call()
            start = time.perf_counter()
            call()
            milliseconds = 1_000 * (time.perf_counter() - start)
        wanted = int(TRIAL_MS / max(milliseconds, 0.001))
        return max(MIN_RUNS, min(MAX_RUNS, wanted // 16 * 16))


def settings_to_try(config: OrtPerfTuningConfig, cores: int) -> list[dict[str, Any]]:
    """Session options, each once, the default first: sequential, all threads within operators, all optimizations.

    :param cores: the most threads of either kind
    """
    levels = config.opt_level_list or (99,)
    modes = config.execution_mode_list or (SEQUENTIAL, PARALLEL)
    threads = {SEQUENTIAL: list(_sequential(config, cores)), PARALLEL: list(_parallel(config, cores))}
    extra = {"extra_session_config": config.extra_session_config} if config.extra_session_config else {}
    tried = [
        {"execution_mode": mode, "graph_optimization_level": level, **counts, **extra}
        for level in sorted(levels, reverse=True)
        for mode in modes
        for counts in threads[mode]
    ]
    return [options for position, options in enumerate(tried) if options not in tried[:position]]


def _sequential(config: OrtPerfTuningConfig, cores: int) -> Iterator[dict[str, int]]:
    """Threads within operators; between them there is one."""
    for intra in _counts(config.intra_thread_num_list, cores, least=1):
        yield {"intra_op_num_threads": intra, "inter_op_num_threads": 1}


def _parallel(config: OrtPerfTuningConfig, cores: int) -> Iterator[dict[str, int]]:
    """Threads between operators; what is left of the cores goes to threads within each, unless the user says."""
    for inter in _counts(config.inter_thread_num_list, cores, least=2):
        left = max(1, cores // inter)
        for intra in [count for count in config.intra_thread_num_list if count is not None] or [left]:
            yield {"intra_op_num_threads": intra, "inter_op_num_threads": inter}


def _counts(written: Sequence[int | None], cores: int, least: int) -> list[int]:
    """The counts that the user wrote, or halvings from `cores` down to `least`."""
    given = [count for count in written if count is not None]
    if given:
        return given
    halvings = [cores]
    while halvings[-1] // 2 >= least:
        halvings.append(halvings[-1] // 2)
    return [count for count in halvings if count >= least]


def judge(blocks: Blocks) -> dict[str, Any]:
    """Whether the second model is faster than the first: the median's 95 % interval of the difference lies below zero.

    :param blocks: milliseconds, [2, blocks, runs in a block]
    """
    import numpy as np

    from hfopt.statistics import block_bootstrap, percentile_interval

    resampled = block_bootstrap(blocks, lambda runs: np.median(runs, axis=-1))
    medians = [float(np.median(model)) for model in blocks]
    interval = percentile_interval(medians[1] - medians[0], resampled[1] - resampled[0])
    return {"medians_ms": medians, "difference_ms": interval._asdict(), "faster": interval.high < 0}


def _timed(model: ModelHandle, options: dict[str, Any]) -> Timed:
    settings = {**model.inference_settings, "session_options": options}
    return Timed(model.with_(inference_settings=settings))
