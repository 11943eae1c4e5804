"""A decoder of 6 GB from safetensors to int4, by one `hfopt run`: how much memory its processes take (`make bench`).

Its weights are random, in the shapes of a Llama with 6 layers, and are written block by block. Takes 14 GB below the
current folder, all of which is removed. Memory is what all processes together have resident, sampled every 20 ms; what
files mapped into memory take counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SIZES = {"vocab_size": 32_000, "hidden_size": 4_096, "intermediate_size": 11_008, "num_attention_heads": 32}
LIMIT_GB = 3.0
BLOCK = 1 << 22
"""Weights that are made at a time."""


def make_model(folder: Path, layers: int) -> float:
    """Write a LlamaForCausalLM, a file for each of its layers.

    :return: GB of its weights
    """
    import numpy as np

    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": layers, **SIZES}
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False, "dtype": "float32"}))
    random, places, written = np.random.default_rng(0), dict[str, str](), 0
    for number, shapes in enumerate(files(layers), 1):
        name = f"model-{number:05}-of-{layers + 1:05}.safetensors"
        places |= dict.fromkeys(shapes, name)
        header, end = dict[str, object](), 0
        for tensor, shape in shapes.items():
            begin, end = end, end + 4 * int(np.prod(shape))
            header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / name, "wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for start in range(0, end // 4, BLOCK):
                stream.write((0.02 * random.standard_normal(min(BLOCK, end // 4 - start), np.float32)).tobytes())
        written += end
    index = {"metadata": {"total_size": written}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return written / 1e9


def files(layers: int) -> Iterator[dict[str, list[int]]]:
    """Names and shapes of the tensors, as transformers has them."""
    words, width, inner = SIZES["vocab_size"], SIZES["hidden_size"], SIZES["intermediate_size"]
    for layer in range(layers):
        within = {f"self_attn.{part}_proj": [width, width] for part in "qkvo"}
        within |= {"mlp.gate_proj": [inner, width], "mlp.up_proj": [inner, width], "mlp.down_proj": [width, inner]}
        within |= {"input_layernorm": [width], "post_attention_layernorm": [width]}
        yield {f"model.layers.{layer}.{name}.weight": shape for name, shape in within.items()}
    yield {
        "model.embed_tokens.weight": [words, width],
        "model.norm.weight": [width],
        "lm_head.weight": [words, width],
    }


def make_config() -> dict:
    """The run: a conversion, which compares, then int4."""
    model = {"model_path": "./model", "hf_config": {"task": "text-generation"}}
    return {
        "input_model": {"type": "PyTorchModel", "config": model},
        "passes": {"conversion": {"type": "OnnxConversion"}, "int4": {"type": "OnnxMatMul4Quantizer"}},
        "engine": {"cache_dir": "cache", "output_dir": "out"},
    }


def peak_gigabytes(process: subprocess.Popen) -> float:
    """Wait for a process; what it and its descendants had resident at most, together."""
    import psutil

    parent, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        resident = 0
        try:
            for each in (parent, *parent.children(recursive=True)):
                resident += each.memory_info().rss
        except psutil.Error:
            pass  # one has ended meanwhile
        peak = max(peak, resident)
        time.sleep(0.02)
    return peak / 1e9


def main() -> int:
    """Print the peak and a row per step.

    :return: 1 if the run fails, or needs more memory than wanted
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6)
    layers = parser.parse_args().layers
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        size = make_model(folder / "model", layers)
        (folder / "config.json").write_text(json.dumps(make_config()))
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "hfopt", "run", "config.json"], cwd=folder)
        peak, seconds = peak_gigabytes(process), time.perf_counter() - start
        if process.returncode != 0:
            return 1
        (result,) = json.loads((folder / "out" / "run.json").read_text())["results"]
        (candidate,) = result["candidates"]
        for step in candidate["steps"]:
            print(f"{step['name']:22} {step['seconds']:7.1f} s   peak {step['peak_rss_bytes'] / 1e9:5.2f} GB")
        verdict = "ok" if peak <= LIMIT_GB else "EXCEEDED"
        print(f"{size:.2f} GB became {candidate['size_bytes'] / 1e9:.2f} GB in {seconds:.0f} s")
        print(f"peak of all processes {peak:.2f} GB   at most {LIMIT_GB} GB: {verdict}")
        return 0 if peak <= LIMIT_GB else 1


if __name__ == "__main__":
    sys.exit(main())
