"""Streaming calibration against onnxruntime's own calibrators on all the data at once."""

from __future__ import annotations

import numpy as np
import pytest

from hfopt_onnx_model.graph import describe_io
from hfopt_onnx_model.session import suited
from hfopt_ort_passes import calibration
from hfopt_ort_passes.calibration import calibrate
from hfopt_ort_passes.quantization import prepare

OPERATORS = ("MatMul", "Gemm", "Gather")


@pytest.fixture
def prepared(converted, tmp_path):
    return prepare(converted.path, tmp_path / "prepared.onnx")


def streamed(model, lines, folder, method, **options):
    return calibrate(
        model,
        lines(9, length=11),
        folder,
        operators=OPERATORS,
        method=method,
        extra_options=options,
        progress=lambda *_: None,
    )


def at_once(model, lines, folder, method, **options):
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    inputs, _ = describe_io(model)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.remaining = iter([suited(batch.feeds, inputs) for batch in lines(9, length=11).batches()])

        def get_next(self):
            return next(self.remaining, None)

    calibrator = create_calibrator(
        model, OPERATORS, str(folder / "own.onnx"), CalibrationMethod[method], extra_options=options
    )
    calibrator.collect_data(Reader())
    return calibrator.compute_data()


def ranges(data) -> dict[str, tuple[float, float]]:
    return {name: tuple(float(np.squeeze(bound)) for bound in data[name].range_value[:2]) for name in data.keys()}  # noqa: SIM118 - TensorsData has no iterator


@pytest.mark.parametrize(
    ("written", "own"),
    [({}, {}), ({"CalibTensorRangeSymmetric": True}, {"symmetric": True})],
)
def test_min_max_ranges_equal_those_of_all_data_at_once(prepared, lines, tmp_path, written, own):
    got = ranges(streamed(prepared, lines, tmp_path, "MinMax", **written))
    expected = ranges(at_once(prepared, lines, tmp_path, "MinMax", **own))

    assert got == expected
    assert len(got) > 20


@pytest.mark.parametrize("batches", [1, 4, 9])
def test_min_max_ranges_do_not_depend_on_how_many_batches_one_call_has(prepared, lines, tmp_path, monkeypatch, batches):
    expected = ranges(streamed(prepared, lines, tmp_path, "MinMax"))
    monkeypatch.setattr(calibration, "BATCHES_PER_CALL", batches)

    assert ranges(streamed(prepared, lines, tmp_path, "MinMax")) == expected


@pytest.mark.parametrize("method", ["Percentile", "Entropy"])
def test_ranges_of_histograms_are_near_those_of_all_data_at_once(prepared, lines, tmp_path, method):
    """Near: bins are laid by the first batch instead of by all."""
    got = ranges(streamed(prepared, lines, tmp_path, method))
    expected = ranges(at_once(prepared, lines, tmp_path, method))

    assert got.keys() == expected.keys()
    width = np.array([high - low for low, high in expected.values()])
    difference = np.abs(np.array(list(got.values())) - np.array([expected[name] for name in got])).max(axis=1)
    assert np.median(difference / np.maximum(width, 1e-9)) < 0.05


def test_options_of_calibrating_reach_it(prepared, lines, tmp_path):
    plain = ranges(streamed(prepared, lines, tmp_path, "MinMax"))
    moving = ranges(streamed(prepared, lines, tmp_path, "MinMax", CalibMovingAverage=True))
    still = ranges(
        streamed(prepared, lines, tmp_path, "MinMax", CalibMovingAverage=True, CalibMovingAverageConstant=0.0)
    )
    wide = ranges(streamed(prepared, lines, tmp_path, "Percentile"))
    narrow = ranges(streamed(prepared, lines, tmp_path, "Percentile", CalibPercentile=60.0))

    def total(found):
        return sum(high - low for low, high in found.values())

    assert total(moving) < total(plain)
    assert moving != still
    assert total(narrow) < 0.8 * total(wide)
