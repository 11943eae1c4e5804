"""Peak memory of OnnxMatMul4Quantizer on a model of 6 GB, each algorithm in a fresh process (`make bench`).

The model has random weights in the shapes of a Llama with 6 layers. It is written block by block and never held. Takes
8 GB below the folder for temporary files; all of it is removed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LAYERS = 6
VOCABULARY, WIDTH, INNER = 32_000, 4_096, 11_008
LIMIT_MB = 2_500
ALGORITHMS = ("DEFAULT", "RTN")
BLOCK = 1 << 22
"""Weights that are made at a time."""


def shapes() -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of every weight."""
    yield "embedding", VOCABULARY, WIDTH
    for layer in range(LAYERS):
        for name in ("query", "key", "value", "output"):
            yield f"{layer}.{name}", WIDTH, WIDTH
        yield f"{layer}.gate", WIDTH, INNER
        yield f"{layer}.up", WIDTH, INNER
        yield f"{layer}.down", INNER, WIDTH
    yield "head", WIDTH, VOCABULARY


def make_model(file: Path) -> None:
    """Write the model, its weights beside it."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    weights, offset = [], 0
    with (file.parent / "weights.bin").open("wb") as stream:
        for name, rows, columns in shapes():
            for start in range(0, rows * columns, BLOCK):
                count = min(BLOCK, rows * columns - start)
                stream.write((0.02 * random.standard_normal(count, dtype=np.float32)).tobytes())
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[rows, columns])
            tensor.data_location = TensorProto.EXTERNAL
            length = 4 * rows * columns
            for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
            weights.append(tensor)
            offset += length

    nodes = [helper.make_node("Gather", ["embedding", "input_ids"], ["0"], name="embed")]
    for layer in range(LAYERS):
        nodes += list(block(layer))
    nodes.append(helper.make_node("MatMul", [str(LAYERS), "head"], ["logits"], name="logits"))
    axes = ["batch_size", "sequence_length"]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, axes)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*axes, VOCABULARY])
    graph = helper.make_graph(nodes, "random", [ids], [logits], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))


def block(layer: int) -> Iterator[object]:
    """A layer's products, without the attention itself."""
    from onnx import helper

    at = str(layer)
    for name in ("query", "key", "value", "output"):
        yield helper.make_node("MatMul", [at, f"{layer}.{name}"], [f"{layer}.{name}.y"], name=f"{layer}.{name}")
        at = f"{layer}.{name}.y"
    for name in ("gate", "up"):
        yield helper.make_node("MatMul", [at, f"{layer}.{name}"], [f"{layer}.{name}.y"], name=f"{layer}.{name}")
    yield helper.make_node("Mul", [f"{layer}.gate.y", f"{layer}.up.y"], [f"{layer}.gated"], name=f"{layer}.mul")
    yield helper.make_node("MatMul", [f"{layer}.gated", f"{layer}.down"], [f"{layer}.z"], name=f"{layer}.down")
    yield helper.make_node("Add", [str(layer), f"{layer}.z"], [str(layer + 1)], name=f"{layer}.add")


def quantize(file: Path, folder: Path, algorithm: str) -> None:
    """Run the pass in this process; print its peak resident memory in MB, its seconds, and what it wrote in MB."""
    from hfopt import Accelerator, ModelHandle, PassContext
    from hfopt_onnx_model.graph import handle_of
    from hfopt_ort_passes.matmul4 import OnnxMatMul4Quantizer, OnnxMatMul4QuantizerConfig

    def refuse(*_: object) -> object:
        raise RuntimeError("this pass opens and times nothing")

    model = handle_of(file, like=ModelHandle(type="ONNXModel", path=file, files=()))
    context = PassContext(folder, Accelerator(), 2, 0, {}, refuse, refuse, lambda *_: None)
    start = time.perf_counter()
    result = OnnxMatMul4Quantizer(OnnxMatMul4QuantizerConfig(algorithm=algorithm)).run(model, context)
    seconds = time.perf_counter() - start
    print(peak_megabytes(), seconds, result.model.size_bytes / 1e6)


def peak_megabytes() -> float:
    """This program's own high-water mark: that of getrusage includes the process that started it."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / 1e6


def main() -> int:
    """Print a row per algorithm.

    :return: 1 if one needs more memory than allowed
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    wanted = parser.parse_args().algorithms
    within = True
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        make_model(file)
        size = sum(4 * rows * columns for _, rows, columns in shapes()) / 1e6
        print(f"int4 of {size:,.0f} MB of weights\n{'algorithm':12}{'peak':>9}{'seconds':>12}{'written':>12}")
        for algorithm in wanted:
            with tempfile.TemporaryDirectory(dir=folder) as output:
                command = [sys.executable, __file__, "run", str(file), output, algorithm]
                run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            peak, seconds, written = (float(number) for number in run.stdout.split())
            kept = peak <= LIMIT_MB
            within &= kept
            verdict = "ok" if kept else "EXCEEDED"
            print(f"{algorithm:12}{peak:6.0f} MB{seconds:10.1f} s{written:9.0f} MB   at most {LIMIT_MB} MB: {verdict}")
    return 0 if within else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        quantize(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        sys.exit(main())
