"""Preparing 100,000 texts, as rows or a corpus, beside `datasets.map` with the fast tokenizer alone; and its memory.

Both go from a file of JSON lines to tokens in Arrow, each time in a fresh process (`make bench`). Time may be 1.2 times
that of datasets. While texts are tokenised, ten times the rows may take a tenth more memory, without files that are
mapped into it; how much loading takes before that is `datasets`' affair, and is shown.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

ROWS = 100_000
SLOWER, LARGER = 1.20, 1.10
ROUNDS = 3
CORPUS = {"task": "text-generation", "text_cols": "text", "source_max_len": 512, "stride": 256}
CASES = {
    "rows": {"task": "text-classification", "input_cols": "text", "max_length": 512},
    "stream": {"task": "text-classification", "input_cols": "text", "streaming": True, "max_samples": ROWS},
    **{each: {**CORPUS, "corpus_strategy": each} for each in ("line-by-line", "join", "join-sliding-window")},
}
"""Options of the data, by name."""


def make_corpus(folder: Path) -> None:
    """Texts of 4 to 60 words of a made-up language, all of them and a tenth; and a tokenizer of 8,000 byte pairs."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choices(letters, range(26, 0, -1), k=draw.randint(2, 9))) for _ in range(20_000)]
    often = [1 / rank for rank in range(1, len(words) + 1)]
    texts = [" ".join(draw.choices(words, often, k=draw.randint(4, 60))) for _ in range(ROWS)]
    for name, rows in (("all", ROWS), ("tenth", ROWS // 10)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:rows]))
    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(texts[:5_000], vocab_size=8_000, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(folder / "tokenizer")


def with_datasets(folder: Path, name: str) -> None:
    """What one would write by hand."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    start = time.perf_counter()
    file = str(folder / f"{name}.jsonl")
    rows = datasets.load_dataset("json", data_files=file, split="train", cache_dir=str(folder / "cache"))
    mapping = time.perf_counter()
    rows = rows.map(
        lambda batch: tokenizer(batch["text"], add_special_tokens=False, truncation=True, max_length=512),
        batched=True,
        remove_columns=["text"],
    )
    report(time.perf_counter() - start, time.perf_counter() - mapping)


def with_hfopt(folder: Path, name: str, case: str) -> None:
    """The same, with the texts' first and last tokens."""
    import datasets
    from transformers import AutoTokenizer

    from hfopt import DataContext
    from hfopt_hf_data.config import HuggingfaceContainerConfig
    from hfopt_hf_data.container import HuggingfaceContainer

    options = {
        "data_name": "json",
        "data_files": str(folder / f"{name}.jsonl"),
        "model_name": str(folder / "tokenizer"),
        **CASES[case],
    }
    config = HuggingfaceContainerConfig.model_validate_json(json.dumps(options))
    AutoTokenizer.from_pretrained(folder / "tokenizer")  # what both import is not timed
    datasets.disable_progress_bars()
    (folder / "rows").mkdir()
    start = time.perf_counter()
    HuggingfaceContainer(config).prepare(DataContext(folder / "rows", tokenising))
    report(time.perf_counter() - start)


PEAK = [0]
"""In kibibytes; once texts are tokenised, that of loading stands before it."""


def tokenising(*_: object) -> None:
    if len(PEAK) == 1:
        PEAK.append(0)


def watch() -> None:
    """Notes what memory is the process's own: not the pages of files, which the system takes back when it likes."""
    while True:
        status = Path("/proc/self/status").read_text()
        PEAK[-1] = max(PEAK[-1], int(status.partition("RssAnon:")[2].split()[0]))
        time.sleep(0.02)


def report(*seconds: float) -> None:
    print(*seconds, *(each / 1024 for each in PEAK))


def measured(source: Path, *arguments: str) -> list[float]:
    """Seconds, and then mebibytes, of a run in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for each in source.iterdir():
            (Path(folder) / each.name).symlink_to(each)
        settings = {**os.environ, "TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1", "HF_HOME": folder}
        command = [sys.executable, __file__, folder, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=settings)
    return [float(each) for each in done.stdout.split()]


def main() -> int:
    with tempfile.TemporaryDirectory() as source:
        make_corpus(Path(source))
        by_hand, own, wrong = [], {"rows": [], "line-by-line": []}, False
        for _ in range(ROUNDS):
            by_hand.append(measured(Path(source), "all"))
            for case, found in own.items():
                found.append(measured(Path(source), "all", case))
        whole, mapped, *_ = map(min, zip(*by_hand, strict=True))
        print(f"{ROWS:,} texts: datasets.map {mapped:.1f} s ({whole:.1f} with loading)")
        for case, found in own.items():
            seconds = min(each[0] for each in found)
            print(
                f"{case}: {seconds:.1f} s in all, {seconds / mapped:.2f} times datasets.map; at most {SLOWER} allowed"
            )
            wrong |= seconds > SLOWER * mapped
        for case in CASES:
            (_, first, small), (_, loading, large) = (measured(Path(source), name, case) for name in ("tenth", "all"))
            rows = f"{ROWS // 10:,} texts, {large:.0f} for {ROWS:,}"
            print(f"{case}: {small:.0f} MiB for {rows} (loading {first:.0f}, {loading:.0f})")
            wrong |= large > small * LARGER
    return int(wrong)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    Thread(target=watch, daemon=True).start()
    here, *wanted = sys.argv[1:]
    (with_hfopt if len(wanted) == 2 else with_datasets)(Path(here), *wanted)
