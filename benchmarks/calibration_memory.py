"""Peak memory of static quantization on 100 and on 2,000 rows, each in a fresh process (`make bench`).

Calibration streams: the two may differ by a tenth at most. The model is a random BERT of 11 million weights.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS = (100, 2_000)
ALLOWED = 1.10
METHODS = ("MinMax", "Entropy", "Percentile")


def make_model(file: Path) -> None:
    """Write a random BERT as ONNX."""
    import torch
    import transformers

    from hfopt import TensorSpec
    from hfopt_hf_model_loader.session import TorchSession
    from hfopt_onnx_conversion.export import export

    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
    )
    config._attn_implementation = "eager"
    axes = ("batch_size", "sequence_length")
    specs = (
        TensorSpec(name="input_ids", dtype="int64", axes=axes, high=config.vocab_size),
        TensorSpec(name="attention_mask", dtype="int64", axes=axes, high=2),
    )
    model = transformers.BertForSequenceClassification(config).eval()
    export(TorchSession(model, specs), specs, file, 17)


def peak_mebibytes(model: Path, method: str, rows: int) -> float:
    """Calibrate in this process.

    :return: its peak resident memory
    """
    import numpy as np

    from hfopt import Batch, Dataset
    from hfopt.api.example import example_feeds
    from hfopt_onnx_model.graph import describe_io
    from hfopt_ort_passes.calibration import calibrate
    from hfopt_ort_passes.quiet import quiet

    inputs, _ = describe_io(model)

    class Lines(Dataset):
        def __len__(self) -> int:
            return rows

        def batches(self, wanted: object = None) -> object:
            for row in range(rows):
                feeds = example_feeds(inputs, {"batch_size": 1, "sequence_length": 4 + row % 60}, seed=row)
                yield Batch(np.array([row]), feeds, None)

        def post_process(self, outputs: dict) -> object:
            return outputs["logits"]

    with tempfile.TemporaryDirectory() as folder, quiet():
        operators = ("MatMul", "Gemm", "Gather")
        calibrate(
            model,
            Lines(),
            Path(folder),
            operators=operators,
            method=method,
            extra_options={},
            progress=lambda *_: None,
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Print a row per method.

    :return: 1 if memory grows with the number of rows
    """
    within = True
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        make_model(model)
        print(f"{'method':12}{ROWS[0]:>6} rows{ROWS[1]:>7} rows   ratio, at most {ALLOWED}")
        for method in METHODS:
            command = [sys.executable, __file__, str(model), method]
            runs = [subprocess.run([*command, str(rows)], check=True, capture_output=True, text=True) for rows in ROWS]
            few, many = (float(run.stdout) for run in runs)
            kept = many <= ALLOWED * few
            within &= kept
            print(f"{method:12}{few:7.0f} MiB{many:8.0f} MiB   {many / few:.3f} {'ok' if kept else 'EXCEEDED'}")
    return 0 if within else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak_mebibytes(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
    else:
        sys.exit(main())
