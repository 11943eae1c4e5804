"""Options of OrtPerfTuning, and the settings that they ask to try. Pure: nothing here runs a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from hfopt import DataName
from hfopt.api.config import OptionError, UnknownName, only
from hfopt_onnx_model.providers import PROVIDERS, ProviderName
from hfopt_onnx_model.session import DTYPES
from hfopt_onnx_model.settings import ProviderOption, SessionEntry
from hfopt_ort_passes.user_scripts import RowsFromFunction

_NO_CUDA_GRAPH = "a CUDA graph replays one shape from fixed addresses; the sessions here take rows of any length"
AFFINITIES = "session.intra_op_thread_affinities"
TENSORRT = "TensorrtExecutionProvider"
SEQUENTIAL, PARALLEL = 0, 1

DEVICES = sorted({device for provider in PROVIDERS.values() for device in provider.devices})

_MODES = {"ORT_SEQUENTIAL": SEQUENTIAL, "ORT_PARALLEL": PARALLEL}


def _mode(written: Any) -> Any:
    """An execution mode by its name in ONNX Runtime too."""
    return _MODES.get(written, written) if isinstance(written, str) else written


ExecutionMode = Annotated[Literal[0, 1], BeforeValidator(_mode)]
GraphLevel = Literal[0, 1, 2, 99]
Threads = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=0)]
Setting = Mapping[str, Any]
"""Inference settings of an ONNX model, complete: provider, its options, session options."""


def _known_dtype(name: str) -> str:
    if name not in DTYPES.values():
        raise UnknownName("dtype", name, sorted(DTYPES.values()))
    return name


def _known_device(name: str | None) -> str | None:
    if name is not None and name not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    return name


class OrtPerfTuningConfig(RowsFromFunction):
    """Options of ``OrtPerfTuning``."""

    data_config: DataName | None = Field(
        None, description="Rows to time on, each at its own length; null: examples of 64 tokens, or input_shapes."
    )
    input_names: tuple[str, ...] | None = Field(None, description="Inputs to make examples of, instead of data.")
    input_shapes: tuple[tuple[Size, ...], ...] | None = Field(
        None, validate_default=True, description="Their shapes, one for each name."
    )
    input_types: tuple[Annotated[str, AfterValidator(_known_dtype)], ...] | None = Field(
        None, description="Their dtypes (int64, float32...), one for each name; null: the model's own."
    )
    batch_size: int = Field(1, ge=1, description="Of the examples of 64 tokens.")
    device: Annotated[str | None, AfterValidator(_known_device)] = Field(
        None, description="cpu, gpu, npu: must be the accelerator's; null: the accelerator's."
    )
    cpu_cores: int | None = Field(None, ge=1, description="The most threads to use; null: one for each usable CPU.")
    io_bind: bool = Field(False, description="Save io_bind: true. Timing binds inputs and outputs either way.")
    enable_cuda_graph: Annotated[bool, only(False, because=_NO_CUDA_GRAPH)] = Field(False, description="Not available.")
    providers_list: tuple[ProviderName | tuple[ProviderName, dict[str, ProviderOption]], ...] | None = Field(
        None,
        description="Execution providers to try, each a name, or a name and an object of its options; "
        "null: the one that the model runs on.",
    )
    force_evaluate_other_eps: bool = Field(
        False, description="Also try those of providers_list that are not the accelerator's."
    )
    trt_fp16_enable: bool = Field(False, description="Let TensorrtExecutionProvider compute in float16.")
    execution_mode_list: tuple[ExecutionMode, ...] | None = Field(
        None, description="0 or ORT_SEQUENTIAL, 1 or ORT_PARALLEL; null: both."
    )
    opt_level_list: tuple[GraphLevel, ...] | None = Field(
        None, description="Graph optimization levels of the session; null: the model's own, else 99."
    )
    intra_thread_num_list: tuple[Threads | None, ...] | None = Field(
        (None,), description="Threads within an operator; null among them: halved from cpu_cores down to 1."
    )
    inter_thread_num_list: tuple[Threads | None, ...] | None = Field(
        (None,),
        description="Threads between operators in parallel mode; null among them: from 2, doubled to cpu_cores.",
    )
    extra_session_config: dict[str, SessionEntry] | None = Field(
        None, description=f"Session config entries of every setting. {AFFINITIES} fixes the threads within an operator."
    )
    enable_profiling: bool = Field(
        False, description="Profile the saved setting afterwards, into profile.json of the step's artifact."
    )

    @property
    def providers(self) -> list[tuple[str, Mapping[str, str]]]:
        """``providers_list``, each with its options; none if it is not written."""
        return _with_options(self.providers_list)

    def ignored(self) -> dict[str, str]:
        reasons = {}
        if not self.providers_list:
            reasons["force_evaluate_other_eps"] = "there is no providers_list"
        if self.execution_mode_list and PARALLEL not in self.execution_mode_list:
            reasons["inter_thread_num_list"] = "there are threads between operators in parallel mode only"
        return {**super().ignored(), **{name: reasons[name] for name in self.written(*reasons)}}

    @field_validator("input_names")
    @classmethod
    def _data_or_examples(cls, names: Sequence[str] | None, info: ValidationInfo) -> Sequence[str] | None:
        if names and info.data.get("data_config"):
            raise ValueError("there is a data_config, whose rows are timed: give one of the two")
        return names

    @field_validator("input_shapes", "input_types")
    @classmethod
    def _one_for_each_name(cls, given: Sequence[Any] | None, info: ValidationInfo) -> Sequence[Any] | None:
        if "input_names" not in info.data:
            return given
        names = info.data["input_names"] or ()
        if given and not names:
            raise ValueError("needs input_names")
        if names and given is None and info.field_name == "input_shapes":
            raise OptionError("input_shapes", "is required with input_names")
        if given and len(given) != len(names):
            raise ValueError(f"must have one entry for each of the {len(names)} input_names; has {len(given)}")
        return given

    @field_validator("batch_size")
    @classmethod
    def _of_examples(cls, size: int, info: ValidationInfo) -> int:
        for other in ("data_config", "input_shapes"):
            if size != 1 and info.data.get(other):
                raise ValueError(f"{other} says already how large a batch is")
        return size

    @field_validator("trt_fp16_enable")
    @classmethod
    def _has_tensorrt(cls, enabled: bool, info: ValidationInfo) -> bool:
        providers = _with_options(info.data.get("providers_list"))
        if enabled and providers and all(name != TENSORRT for name, _ in providers):
            raise ValueError(f"needs {TENSORRT} in providers_list")
        return enabled

    @field_validator("extra_session_config")
    @classmethod
    def _fits_affinities(cls, extra: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        fixed = threads_of_affinities(extra or {})
        if fixed and any(count not in (None, fixed) for count in info.data.get("intra_thread_num_list") or ()):
            raise ValueError(
                f"{AFFINITIES} fixes the threads within an operator: intra_thread_num_list must be [{fixed}]"
            )
        return extra


def _with_options(written: Sequence[str | tuple[str, Mapping[str, str]]] | None) -> list[tuple[str, Mapping[str, str]]]:
    """Execution providers with what options they are given."""
    return [(each, {}) if isinstance(each, str) else each for each in written or ()]


def threads_of_affinities(extra: Mapping[str, str]) -> int | None:
    """Threads within an operator that affinities are for: one each, and the caller's, which has none."""
    affinities = extra.get(AFFINITIES)
    return affinities.count(";") + 2 if affinities else None


@dataclass(frozen=True)
class Chain:
    """Settings that differ in their numbers of threads, to be tried in this order.

    :param searched: the numbers are halvings or doublings: once it has become much slower, the rest is slower yet
    """

    settings: tuple[Setting, ...]
    searched: bool


def default_setting(config: OrtPerfTuningConfig, own: Setting, provider: Setting, cores: int) -> dict[str, Any]:
    """What the model would be run with otherwise, complete: what every other setting has to beat.

    What its inference settings leave out is sequential execution, all cores within an operator, every optimization.

    :param own: the model's inference settings
    :param provider: its execution providers and their options
    :param cores: how many threads there may be
    """
    written = {key: value for key, value in own.get("session_options", {}).items() if key != "enable_profiling"}
    options = {"execution_mode": SEQUENTIAL, "graph_optimization_level": 99, "intra_op_num_threads": cores, **written}
    options.setdefault("inter_op_num_threads", 1 if options["execution_mode"] == SEQUENTIAL else 0)
    if config.cpu_cores is not None:
        for kind in ("intra_op_num_threads", "inter_op_num_threads"):
            options[kind] = min(options[kind] or cores, cores)
    extra = {**options.get("extra_session_config", {}), **(config.extra_session_config or {})}
    if extra:
        options["extra_session_config"] = extra
        options["intra_op_num_threads"] = threads_of_affinities(extra) or options["intra_op_num_threads"]
    kept = {"io_bind": True} if config.io_bind else {}
    return {**own, **provider, "session_options": options, **kept}


def settings_to_try(
    config: OrtPerfTuningConfig, default: Setting, providers: Sequence[Setting], cores: int
) -> list[Chain]:
    """Every setting once, the default where it is one of them.

    :param providers: execution providers and their options, one entry for each provider to try
    """
    own = default["session_options"]
    levels = config.opt_level_list or (own["graph_optimization_level"],)
    modes = config.execution_mode_list or (SEQUENTIAL, PARALLEL)
    seen: list[Setting] = []
    chains = []
    for provider, mode, level in product(providers, modes, levels):
        fixed = threads_of_affinities(own.get("extra_session_config", {}))
        counts, searched = _threads(config, mode, cores, fixed)
        settings = [
            {**default, **provider, "session_options": {**own, **_options(mode, level), **count}} for count in counts
        ]
        fresh = [each for position, each in enumerate(settings) if each not in [*seen, *settings[:position]]]
        seen += fresh
        chains.append(Chain(tuple(fresh), searched))
    return chains


def _options(mode: int, level: int) -> dict[str, int]:
    return {"execution_mode": mode, "graph_optimization_level": level}


def _threads(
    config: OrtPerfTuningConfig, mode: int, cores: int, fixed: int | None
) -> tuple[list[dict[str, int]], bool]:
    """Numbers of threads to try in a mode, and whether they are searched and not written.

    In parallel mode, what is left of the cores goes to threads within each operator, unless the user says.
    """
    intra = config.intra_thread_num_list or (None,)
    if fixed and intra == (None,):
        intra = (fixed,)
    inter = config.inter_thread_num_list or (None,)
    if mode == SEQUENTIAL:
        counts = [(count, 1) for count in _expanded(intra, halvings(cores, least=1))]
        return _as_options(counts), intra == (None,)
    doublings = halvings(cores, least=2)[::-1]
    if not doublings and config.execution_mode_list:
        doublings = [cores]
    counts = []
    for between in _expanded(inter, doublings):
        within = [count for count in intra if count is not None] or [max(1, cores // max(1, between))]
        counts += [(count, between) for count in within]
    return _as_options(counts), inter == (None,)


def _as_options(counts: Sequence[tuple[int, int]]) -> list[dict[str, int]]:
    return [{"intra_op_num_threads": intra, "inter_op_num_threads": inter} for intra, inter in counts]


def _expanded(written: Sequence[int | None], searched: Sequence[int]) -> Iterator[int]:
    """The counts that the user wrote, and in the place of null those to search."""
    for count in written:
        if count is None:
            yield from searched
        else:
            yield count


def halvings(cores: int, least: int) -> list[int]:
    """``cores``, its half and so on, down to `least`; none if it is less."""
    counts = []
    while cores >= least:
        counts.append(cores)
        cores //= 2
    return counts
