"""The code in best/README.md opens the model, whatever the task, and runs a sentence where it reads one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from architectures import ARCHITECTURES, Architecture

pytestmark = pytest.mark.timeout(600)  # whole runs

TASKS = (
    "text-classification", "token-classification", "question-answering", "fill-mask", "feature-extraction",
    "text-generation", "summarization", "translation", "text2text-generation", "image-classification",
    "audio-classification", "automatic-speech-recognition",
)  # fmt: skip
LLAMA = next(each for each in ARCHITECTURES if each.name == "Llama")
OF_TASK = {each.task: each for each in reversed([*ARCHITECTURES, replace(LLAMA, task="text-generation")])}


def best_of(architecture: Architecture, folder: Path, *, token_types: bool = True) -> Path:
    """The best/ of a run over a small random model, with a tokenizer beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    architecture.save(folder / "model")
    words = {word: number for number, word in enumerate(["<pad>", "<unk>", "What", "a", "lovely", "film"])}
    by_word = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=by_word, unk_token="<unk>", pad_token="<pad>", model_input_names=names
    )
    tokenizer.save_pretrained(folder / "model")
    config = {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": "model", "hf_config": {"task": architecture.task}},
        },
        "passes": {"conversion": {"type": "OnnxConversion"}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "hfopt", "run", "config.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "hfopt-output" / "best"


def ran(best: Path, more: str) -> str:
    """What the page's code prints, with a line more, in a fresh interpreter."""
    (code,) = re.findall(r"```python\n(.*?)```", (best / "README.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", f"{code}\n{more}"]
    return subprocess.run(command, cwd=best, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("task", TASKS)
def test_the_code_beside_the_best_model_runs_as_it_is_written(task, tmp_path):
    best = best_of(OF_TASK[task], tmp_path)

    reads = {"text-classification", "token-classification", "question-answering", "fill-mask", "feature-extraction"}
    if task in reads | {"text-generation"}:
        assert int(ran(best, "print(len(outputs[0]))")) == 1
    else:
        files = len([*best.glob("*.onnx")])
        assert ran(best, "print(len(parts) if 'parts' in globals() else len([session]))") == str(files)


def test_a_tokenizer_without_token_types_serves_a_model_that_has_them(tmp_path):
    best = best_of(OF_TASK["text-classification"], tmp_path, token_types=False)

    assert ran(best, "print(len(outputs[0]))") == "1"
