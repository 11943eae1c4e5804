"""Heads of every kind, from a config to figures that transformers, SciPy and scikit-learn find too."""

from __future__ import annotations

import random

import datasets
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score


@pytest.fixture
def head(tiny_model, tmp_path):
    """Makes a model with other outputs, and logits of texts as transformers alone has them."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    def made(**config):
        folder = tmp_path / "head"
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(1)
        own = BertConfig.from_pretrained(tiny_model, initializer_range=0.5, **config)
        model = BertForSequenceClassification(own).eval()
        model.save_pretrained(folder)

        def logits(*texts):
            with torch.inference_mode():
                rows = [model(**tokenizer(*row, return_tensors="pt")).logits[0] for row in zip(*texts, strict=True)]
            return np.stack(rows)

        return folder, logits

    return made


@pytest.fixture
def figures(measured, thread):
    """Runs a config over a model and a parquet file: the input model's and the converted model's metrics."""

    def found(model, columns, sub_types, backend="huggingface_metrics", **params):
        features = columns.pop("features", None)
        data = datasets.Dataset.from_dict(columns)
        if features:
            data = data.cast(datasets.Features({**data.features, **features}))
        data.to_parquet(thread.folder / "rows.parquet")
        written = {"data_name": "parquet", "data_files": "rows.parquet", **params}
        return measured(model, "text-classification", written, sub_types, backend)

    return found


WORDS = ["good", "bad", "film", "plot", "dull", "bright", "slow", "the", "a", "of"]


def texts(seed, count=40):
    choose = random.Random(seed)
    return [" ".join(choose.choices(WORDS, k=choose.randint(2, 9))) for _ in range(count)]


def test_pairs_of_three_classes_whose_data_name_them_in_another_order(head, figures):
    names = ["contradiction", "entailment", "neutral"]
    folder, logits = head(num_labels=3, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    first, second = texts(1), texts(2)
    found = logits(first, second)
    right = found.argmax(axis=1)
    order = ["Neutral", "Contradiction", "Entailment"]
    columns = {"one": first, "two": second, "label": [order.index(names[each].title()) for each in right]}

    before, after = figures(
        folder,
        {**columns, "features": {"label": datasets.ClassLabel(names=order)}},
        [{"name": "accuracy"}],
        input_cols=["one", "two"],
        label_cols="label",
    )

    assert before == after == {"accuracy": 1.0}


def test_several_labels_per_row(head, figures):
    folder, logits = head(num_labels=4, problem_type="multi_label_classification")
    rows = texts(3)
    found = logits(rows)
    labels = (found + np.random.default_rng(0).normal(0, 1, found.shape) > 0).astype(int)
    columns = {"text": rows, **{f"l{column}": labels[:, column].tolist() for column in range(4)}}
    wanted = [{"name": "accuracy"}, {"name": "f1", "metric_config": {"compute_params": {"average": "macro"}}}]

    before, after = figures(folder, columns, wanted, input_cols="text", label_cols=["l0", "l1", "l2", "l3"])

    assert before == after
    assert before == {
        "accuracy": accuracy_score(labels, found > 0),
        "f1": pytest.approx(f1_score(labels, found > 0, average="macro")),
    }


def test_one_output_is_a_number(head, figures):
    folder, logits = head(num_labels=1)
    rows = texts(4)
    found = logits(rows)[:, 0]
    labels = found + np.random.default_rng(0).normal(0, found.std(), len(found))
    columns = {"text": rows, "label": labels.tolist()}
    wanted = [{"name": "pearsonr"}, {"name": "spearmanr"}, {"name": "mse"}]

    before, after = figures(folder, columns, wanted, input_cols="text", label_cols="label")

    assert before["pearsonr"] == pytest.approx(pearsonr(found, labels)[0], abs=1e-6)
    assert before["spearmanr"] == pytest.approx(spearmanr(found, labels)[0])
    assert before["mse"] == pytest.approx(np.mean((found - labels) ** 2), rel=1e-5)
    assert after == pytest.approx(before, rel=1e-4)


def test_a_name_of_torchmetrics_is_an_area_of_probabilities(head, figures):
    folder, logits = head(num_labels=2)
    rows = texts(5)
    found = logits(rows)
    labels = (found[:, 1] - found[:, 0] + np.random.default_rng(0).normal(0, 1, len(found)) > 0).astype(int)
    columns = {"text": rows, "label": labels.tolist()}

    before, _ = figures(folder, columns, [{"name": "auroc"}], "torch_metrics", input_cols="text", label_cols="label")

    odds = np.exp(found)
    assert before == {"auroc": pytest.approx(roc_auc_score(labels, odds[:, 1] / odds.sum(axis=1)))}
