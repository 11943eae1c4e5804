"""OrtPerfTuning: the session options that run a model fastest on this machine.

A tournament: each setting is timed against the fastest so far, in alternating blocks, and replaces it if the 95 %
interval of the difference says that it is faster. Of many settings one wins by luck sooner or later, so the winner is
timed against the default once more, afresh, and saved only if it is faster again (docs/decisions/0006).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from hfopt import Accelerator, Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed, TensorSpec
from hfopt.api.example import BATCH_AXIS, example_feeds
from hfopt.api.forecast import MEGABYTE
from hfopt.api.text import did_you_mean
from hfopt.api.timing import TIMED_ROWS, CannotTime, Timed, spread
from hfopt_onnx_model.providers import why_missing
from hfopt_onnx_model.settings import InferenceSettings, chosen_providers, session_snippet, settings_of
from hfopt_ort_passes.tuning_options import (
    TENSORRT,
    Chain,
    OrtPerfTuningConfig,
    Setting,
    default_setting,
    settings_to_try,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Blocks = NDArray[np.float64]
    Feeds = Mapping[str, NDArray[Any]]

EXAMPLE_LENGTH = 64
"""Size of every dynamic axis but the batch's where no data is named."""
WARMUP, RUNS = 10, 128
TRIAL_SECONDS = 4.0
"""About what the timed runs of one trial may take; a slow model is timed less often, but 32 times."""
MUCH_SLOWER = 1.5
"""Times the best of its chain: the rest of the chain would be slower yet."""
CLEARLY_SLOWER = 1.1
"""Times the incumbent in every block so far: not worth more blocks."""
NOTABLY_FASTER = 0.02
"""A setting that is not faster by as much can't win: its gain would be lost in the noise of the whole trial."""
STUDENT_T = 3.182
"""The 97.5 % quantile with 3 degrees of freedom: of four blocks, the fewest. More have a smaller one."""

Trial = dict[str, Any]


class Time(Protocol):
    """Times two settings against each other, as `judge` has it.

    :param whole: to the end, however hopeless the second looks
    """

    def __call__(self, first: Setting, second: Setting, *, whole: bool = False) -> Trial: ...


class OrtPerfTuning(Pass):
    """Saves the fastest session options as the model's inference settings. The model's file stays as it is."""

    Config: ClassVar[type[Config]] = OrtPerfTuningConfig
    accepts = frozenset({"ONNXModel"})
    measures = True
    memory: ClassVar[Mapping[str, float]] = {"onnxruntime": 60 * MEGABYTE, "copies": 2}
    config: OrtPerfTuningConfig

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        config, accelerator = self.config, context.accelerator
        if config.device not in (None, accelerator.device):
            raise PreconditionFailed(f"device is {config.device}, but this run's accelerator is {accelerator.device}")
        cores = min(config.cpu_cores or context.threads, context.threads)
        own, tried, skipped = providers_to_try(config, settings_of(model), accelerator)
        default = default_setting(config, model.inference_settings, own, cores)
        chains = settings_to_try(config, default, tried, cores)
        feeds = self._feeds(model, context)
        timer = self._timer(model, context, feeds, sum(len(each.settings) for each in chains))
        try:
            outcome = tune(default, chains, timer)
        except CannotTime as error:
            if error.hint or config.data_config or config.input_names:
                raise
            hint = f"it was given {EXAMPLE_LENGTH} tokens: name a data_config, or input_names and input_shapes"
            raise CannotTime(error.message, hint=hint, position=error.position) from error
        tuned = model.with_(inference_settings=outcome["saved"])
        if (profiling := settings_of(model).session_options.enable_profiling) is not None:
            tuned = _with_profiling(tuned, profiling)
        told = {"summary": summary(outcome), "threads": context.threads, "rows": len(feeds)}
        report = {**told, "skipped_providers": skipped, **outcome}
        report["snippet"] = session_snippet(model.path.name, settings_of(tuned))
        if config.enable_profiling:
            report["profile"] = _profile(tuned, context, feeds)
        return PassResult(tuned, report)

    def _timer(self, model: ModelHandle, context: PassContext, feeds: Sequence[Feeds], total: int) -> Time:
        number = count()

        def time(first: Setting, second: Setting, *, whole: bool = False) -> Trial:
            context.progress("settings", min(next(number), total), total)
            pair = [
                Timed(model.with_(inference_settings=dict(each)), {"threads": context.threads})
                for each in (first, second)
            ]
            give_up = None if whole else hopeless
            return judge(context.compare(*pair, feeds, warmup=WARMUP, runs=RUNS, seconds=TRIAL_SECONDS, enough=give_up))

        return time

    def _feeds(self, model: ModelHandle, context: PassContext) -> list[Feeds]:
        if self.config.data_config is not None:
            data = context.data[self.config.data_config]
            return [batch.feeds for batch in data.batches(spread(len(data), TIMED_ROWS))]
        if self.config.input_names:
            return [example_feeds(_written_inputs(self.config, model.inputs), {})]
        axes = {axis for spec in model.inputs for axis in spec.axes if isinstance(axis, str)}
        sizes = {axis: self.config.batch_size if axis == BATCH_AXIS else EXAMPLE_LENGTH for axis in axes}
        return [example_feeds(model.inputs, sizes)]


def _written_inputs(config: OrtPerfTuningConfig, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The inputs that the config names, with exactly its shapes and dtypes, and the model's range of integers.

    :raises PreconditionFailed: the model takes no such input, or not of that dtype
    """
    known = {spec.name: spec for spec in inputs}
    found = []
    for position, name in enumerate(config.input_names or ()):
        if name not in known:
            hint = did_you_mean(name, known)
            raise PreconditionFailed(
                f"input_names: the model takes no {name!r}; it takes {', '.join(known)}", hint=hint
            )
        dtype = config.input_types[position] if config.input_types else known[name].dtype
        if dtype != known[name].dtype:
            raise PreconditionFailed(f"input_types: {name} is {dtype}, but the model takes {known[name].dtype}")
        found.append(known[name].model_copy(update={"axes": (config.input_shapes or ())[position]}))
    return found


def providers_to_try(
    config: OrtPerfTuningConfig, settings: InferenceSettings, accelerator: Accelerator
) -> tuple[Setting, list[Setting], dict[str, str]]:
    """Execution providers, with their options, as a setting has them.

    :param settings: the model's own
    :return: what the model runs on, what is tried, and why others of providers_list are not
    :raises PreconditionFailed: none of providers_list can be tried
    """
    chosen = chosen_providers(settings, accelerator)
    first = next(iter(chosen))
    wanted = config.providers or [(first, {})]
    if config.trt_fp16_enable and TENSORRT not in (first, *(name for name, _ in wanted)):
        raise PreconditionFailed(f"trt_fp16_enable needs {TENSORRT}, and the model runs on {first}")
    own = _as_setting(config, chosen)
    tried: list[Setting] = []
    skipped: dict[str, str] = {}
    for name, options in wanted:
        if name == first:
            tried.append(_as_setting(config, {**chosen, name: {**chosen[name], **options}}))
        elif reason := why_missing(name):
            skipped[name] = reason
        elif not config.force_evaluate_other_eps:
            skipped[name] = f"the model runs on {first}; with force_evaluate_other_eps this one would be tried too"
        else:
            alone = chosen_providers(InferenceSettings(execution_provider=name), accelerator)
            tried.append(_as_setting(config, {name: {**chosen.get(name, alone[name]), **options}}))
    if not tried:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise PreconditionFailed(f"no provider in providers_list can be tried: {reasons}")
    return own, tried, skipped


def _as_setting(config: OrtPerfTuningConfig, chosen: Mapping[str, Mapping[str, str]]) -> Setting:
    fp16 = {"trt_fp16_enable": "True"} if config.trt_fp16_enable else {}
    options = [{**each, **(fp16 if name == TENSORRT else {})} for name, each in chosen.items()]
    return {"execution_provider": list(chosen), "provider_options": options}


def tune(default: Setting, chains: Sequence[Chain], time: Time) -> dict[str, Any]:
    """Find the fastest setting that is beyond doubt faster than the default, or keep the default.

    :return: default, trials, confirmation (null if nothing has beaten the default), saved, default_kept
    :raises CannotTime: the default can't be timed
    """
    winner, trials = tournament(default, chains, time)
    if not any("medians_ms" in trial for trial in trials):
        trials.append({"incumbent": default, "challenger": default, **time(default, default, whole=True)})
    confirmation: Trial | None = None
    if winner != default:
        confirmation = _trial(default, winner, time, default, whole=True)
    saved = winner if confirmation is not None and confirmation.get("faster") else default
    return {
        "default": default,
        "trials": trials,
        "confirmation": confirmation,
        "saved": saved,
        "default_kept": saved == default,
    }


def summary(outcome: Mapping[str, Any]) -> str:
    """What was found, in a few words."""
    timed = [
        trial for trial in outcome["trials"] if "medians_ms" in trial and trial["challenger"] != outcome["default"]
    ]
    if not timed:
        return "default kept, no other setting could be timed"
    settings = f"{len(timed) + 1} settings"
    if outcome["default_kept"]:
        return f"default kept, no other of {settings} was faster twice"
    before, after = outcome["confirmation"]["medians_ms"]
    return f"{before / after:.2f} times as fast as the default, the best of {settings}"


def tournament(default: Setting, chains: Sequence[Chain], time: Time) -> tuple[Setting, list[Trial]]:
    """Time every setting against the fastest so far.

    :return: the setting that was beaten by none, and every trial; one that failed, or was left out, has the reason
    :raises CannotTime: the default can't be timed
    """
    incumbent, pace = default, 1.0
    trials: list[Trial] = []
    for chain in chains:
        best = float("inf")
        for position, challenger in enumerate(chain.settings):
            if challenger == default:
                best = min(best, 1.0)
                continue
            trial = _trial(incumbent, challenger, time, default)
            trials.append(trial)
            if "medians_ms" not in trial:
                if trial["failed"] == "incumbent":
                    incumbent, pace = default, 1.0
                continue
            trial["times_default"] = pace * trial["medians_ms"][1] / trial["medians_ms"][0]
            best = min(best, trial["times_default"])
            if trial["faster"]:
                incumbent, pace = challenger, trial["times_default"]
            if chain.searched and trial["times_default"] > MUCH_SLOWER * best:
                trials += [_left_out(incumbent, each) for each in chain.settings[position + 1 :] if each != default]
                break
    return incumbent, trials


def _trial(incumbent: Setting, challenger: Setting, time: Time, default: Setting, *, whole: bool = False) -> Trial:
    pair: Trial = {"incumbent": incumbent, "challenger": challenger}
    try:
        return pair | time(incumbent, challenger, whole=whole)
    except CannotTime as error:
        failed = ("incumbent", "challenger")[error.position]
        if pair[failed] == default:
            raise
        return pair | {"failed": failed, "reason": error.message}


def _left_out(incumbent: Setting, challenger: Setting) -> Trial:
    reason = f"a setting nearer to the best has taken more than {MUCH_SLOWER} times as long"
    return {"incumbent": incumbent, "challenger": challenger, "left_out": True, "reason": reason}


def judge(blocks: Blocks) -> Trial:
    """Whether the second model is faster than the first: the 95 % interval of the medians' ratio lies above 1.

    :param blocks: milliseconds, [2, blocks, runs in a block]
    """
    import numpy as np

    from hfopt.api.blocks import by_rounds, ratio

    speedup = ratio(*np.median(by_rounds(blocks), axis=-1))
    return {
        "medians_ms": [float(np.median(model)) for model in blocks],
        "speedup": speedup and speedup._asdict(),
        "runs": int(blocks[0].size),
        "faster": speedup is not None and speedup.low > 1,
    }


def hopeless(blocks: Blocks) -> bool:
    """Whether the second model can't win: clearly slower in every block so far, or beyond doubt not faster by 2 %.

    Of settings that are faster by at least 5 %, fewer than one in a hundred are given up (docs/decisions/0006).

    :param blocks: milliseconds so far, [2, blocks, runs in a block]; four blocks or more
    """
    import numpy as np

    first, second = np.median(blocks, axis=-1)
    gains = np.log(first / second)
    best = gains.mean() + STUDENT_T * gains.std(ddof=1) / len(gains) ** 0.5
    return bool(best < np.log1p(NOTABLY_FASTER) or np.all(second > CLEARLY_SLOWER * first))


def _with_profiling(model: ModelHandle, enabled: bool) -> ModelHandle:
    settings = model.inference_settings
    options = {**settings["session_options"], "enable_profiling": enabled}
    return model.with_(inference_settings={**settings, "session_options": options})


def _profile(model: ModelHandle, context: PassContext, feeds: Sequence[Feeds]) -> str:
    """Run the feeds once with profiling on.

    :return: the profile's name in the step's folder
    """
    with context.open(_with_profiling(model, True), {}) as session:
        for each in feeds:
            session.run(each)
        shutil.move(session.live.end_profiling(), context.folder / "profile.json")
    return "profile.json"
