"""Ranges of activations for static quantization, found batch by batch.

ONNX Runtime's calibrators keep every activation of all the data that one call gives them, and want rows of one length.
Giving them one batch a call bounds memory by that batch, and lets rows be as long as they are. Of MinMax they keep two
numbers per activation, so that it may have many batches a call; a moving average moves with every call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hfopt import Dataset, PreconditionFailed
from hfopt.api.config import ReportProgress
from hfopt_onnx_model.graph import describe_io
from hfopt_onnx_model.session import suited

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

OPTIONS = {
    "CalibMovingAverage": "moving_average",
    "CalibMovingAverageConstant": "averaging_constant",
    "CalibPercentile": "percentile",
    "CalibTensorRangeSymmetric": "symmetric",
}
"""What ``extra_options`` of a quantization say of calibrating, and onnxruntime's calibrators call it."""

BATCHES_PER_CALL = 64
"""Of MinMax: two numbers for each batch and activation are kept meanwhile."""


def calibrate(
    model: Path,
    data: Dataset,
    folder: Path,
    *,
    operators: Sequence[str],
    method: str,
    extra_options: Mapping[str, Any],
    progress: ReportProgress,
) -> TensorsData:
    """Run the data through a model and find the range of every activation of some operators.

    :param folder: for a temporary copy of the model that yields those activations
    :param operators: the operators whose inputs and outputs get ranges
    :param method: MinMax; Entropy (Kullback-Leibler, Migacz 2017) or Percentile (99.999) of a histogram
    :param extra_options: of the quantization; those that begin with Calib count here
    :raises PreconditionFailed: there are no data
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    if len(data) == 0:
        raise PreconditionFailed("there are no rows to calibrate with")
    inputs, _ = describe_io(model)
    calibrator = create_calibrator(
        model,
        list(operators),
        augmented_model_path=str(folder / "calibrated.onnx"),
        calibrate_method=CalibrationMethod[method],
        use_external_data_format=True,
        providers=["CPUExecutionProvider"],
        extra_options={OPTIONS[name]: value for name, value in extra_options.items() if name in OPTIONS},
    )
    calibrator.model = None  # its session has it by now
    in_one_call = 1 if method != "MinMax" or extra_options.get("CalibMovingAverage") else BATCHES_PER_CALL

    def feeds() -> Iterator[dict[str, Any]]:
        done = 0
        for batch in data.batches():
            yield suited(batch.feeds, inputs)
            done += len(batch.rows)
            progress("calibrate", done, len(data))

    remaining = feeds()
    for first in remaining:
        calibrator.collect_data(_reader(chain([first], islice(remaining, in_one_call - 1))))
    return calibrator.compute_data()


def _reader(batches: Iterable[dict[str, Any]]) -> SimpleNamespace:
    """What a calibrator asks of a reader: the batches, then nothing."""
    remaining = iter(batches)
    return SimpleNamespace(get_next=lambda: next(remaining, None))
