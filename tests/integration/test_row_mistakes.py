"""What is wrong with rows, splits and labels is one sentence on the command line, before a model is run."""

from __future__ import annotations

import pytest

from hfopt.cli.main import main

CARD = b"""---
configs:
- config_name: default
  data_files: [{split: train, path: train.csv}, {split: validation, path: validation.csv}]
---
"""


@pytest.fixture
def told(thread, monkeypatch, capsys):
    """Runs a config whose data are a folder with two splits, one of them empty; what is said of the data."""
    folder = thread.folder / "reviews"
    folder.mkdir()
    rows = (thread.folder / "rows.csv").read_text()
    (folder / "README.md").write_bytes(CARD)
    (folder / "train.csv").write_text(rows)
    (folder / "validation.csv").write_text(rows.splitlines()[0] + "\n")
    thread.config["passes"] = {"conversion": thread.config["passes"]["conversion"]}
    monkeypatch.chdir(thread.folder)

    def run(**params):
        usual = {"data_name": "reviews", "split": "train", "input_cols": ["text"], "label_cols": ["label"]}
        thread.config["data_configs"][0]["params_config"] = usual | params
        thread.write()
        code = main(["run", "config.json", "--in-process"])
        said = "".join(capsys.readouterr()).replace(str(thread.folder), "HERE")
        assert "Traceback" not in said
        return code, said

    return run


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"input_cols": ["txt"]},
            "HERE/reviews/train.csv: the data have no column 'txt'; they have text, label\n"
            "  hint: did you mean 'text'?\n",
        ),
        (
            {"split": "trian"},
            "the data have no split 'trian'; they have train, validation\n  hint: did you mean 'train'?\n",
        ),
        ({"split": "validation"}, "HERE/reviews/validation.csv has no rows but the one that names the columns\n"),
    ],
)
def test_a_column_or_split_that_is_not_there(told, params, sentence):
    code, said = told(**params)

    assert code == 1
    assert sentence in said


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("7", "HERE/reviews/train.csv: row 0: label 7 is not one of the model's, which are 0 to 1\n"),
        (
            "frehs",
            "HERE/reviews/train.csv: row 0: label 'frehs' is not one of the model's; they are fresh, rotten\n"
            "  hint: did you mean 'fresh'?\n",
        ),
    ],
)
def test_a_label_that_the_model_has_not(told, thread, label, sentence):
    (thread.folder / "reviews" / "train.csv").write_text(f"text,label\ngood film,{label}\n")

    code, said = told()

    assert code == 1
    assert sentence in said
