"""Writing text with a Llama of 75 million random weights, in PyTorch and as int4 ONNX, by `hfopt run` (`make bench`).

Converted, its attention grouped, its weights in 4 bits; both are timed on two CPUs in alternating blocks, on prompts of
128 tokens: the time to the first token, and per token after it. Takes some minutes.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

LEAST_SPEEDUP = 5.0
"""Of the time per token."""
VOCABULARY, PROMPT, ROWS, THREADS = 16_000, 128, 16, 2
FIGURES = {"tpot": "a token", "ttft": "a prompt"}


def make_model(folder: Path) -> None:
    """Write a random LlamaForCausalLM of 74.9 million float32 weights, with a tokenizer of whole words."""
    import tokenizers
    import torch
    import transformers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({str(id_): id_ for id_ in range(VOCABULARY)}, "0"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=4,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def make_config(folder: Path) -> dict:
    """The run, and its prompts."""
    draw = random.Random(0)
    prompts = (" ".join(str(draw.randrange(VOCABULARY)) for _ in range(PROMPT)) for _ in range(ROWS))
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in prompts))
    reading = {"text_cols": ["text"], "corpus_strategy": "line-by-line", "source_max_len": PROMPT}
    data = {"data_name": "json", "data_files": "prompts.jsonl", "component_kwargs": {"pre_process_data": reading}}
    latency = {"name": "writing", "type": "latency", "data_config": "prompts"}
    return {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": "./model", "hf_config": {"task": "text-generation"}},
        },
        "data_configs": [{"name": "prompts", "type": "HuggingfaceContainer", "params_config": data}],
        "evaluators": {"e": {"metrics": [{**latency, "sub_types": [{"name": name} for name in FIGURES]}]}},
        "passes": {
            "conversion": {"type": "OnnxConversion"},
            "fusion": {"type": "OrtTransformersOptimization"},
            "int4": {"type": "OnnxMatMul4Quantizer", "config": {"accuracy_level": 4}},
        },
        "engine": {"evaluator": "e", "cache_dir": "cache", "output_dir": "out"},
    }


def main() -> int:
    """Print a row per figure.

    :return: 1 if the run fails, or a token is not so much faster
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        make_model(folder / "model")
        (folder / "config.json").write_text(json.dumps(make_config(folder)))
        done = subprocess.run([sys.executable, "-m", "hfopt", "run", "config.json"], cwd=folder)
        if done.returncode != 0:
            return 1
        (result,) = json.loads((folder / "out" / "run.json").read_text())["results"]
    before, after = (model["metrics"] for model in (result["input_model"], result["candidates"][0]))
    for figure, what in FIGURES.items():
        old, new = before[f"writing-{figure}"], after[f"writing-{figure}"]
        faster = new["speedup"]
        times = f"{old['value']:7.1f} ms in PyTorch, {new['value']:6.1f} ms as int4"
        print(f"{what:9}{times}: {faster['value']:.1f} times as fast [{faster['low']:.1f}, {faster['high']:.1f}]")
    measured = after["writing-tpot"]["speedup"]["value"]
    fast = measured >= LEAST_SPEEDUP
    print(f"a token: wanted {LEAST_SPEEDUP} times as fast, measured {measured:.1f}: {'ok' if fast else 'TOO SLOW'}")
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
