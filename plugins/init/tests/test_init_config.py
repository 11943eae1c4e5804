"""What `hfopt init` makes of folders and files: a config that validates, and what it could not guess."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from argparse import ArgumentParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfopt import HfoptError
from hfopt_init.command import Init
from hfopt_init.compose import FUSED, compose
from hfopt_init.data import Data, label_column, look_at_data, text_columns
from hfopt_init.model import Model, look_at_model
from hfopt_init.write import render

NAMED = {"id2label": {"0": "rotten", "1": "fresh"}, "label2id": {"rotten": 0, "fresh": 1}}
CLASSIFIER = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
ROWS = [("a good film", "fresh"), ("a bad film", "rotten"), ("no plot at all", "rotten")]


@pytest.fixture
def make_model(tmp_path):
    """A folder with config.json, and files by name that nothing reads here."""

    def make(attributes, *files, name="model"):
        folder = tmp_path / name
        folder.mkdir()
        for file in files or ("model.safetensors", "tokenizer_config.json"):
            (folder / file).parent.mkdir(exist_ok=True, parents=True)
            (folder / file).write_text("")
        if attributes is not None:
            (folder / "config.json").write_text(json.dumps(attributes))
        return folder

    return make


@pytest.fixture
def write_csv(tmp_path):
    def write(header, rows, name="rows.csv", delimiter=","):
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
        return tmp_path / name

    return write


@pytest.fixture
def init(tmp_path, capsys, monkeypatch):
    """Exit code, what is printed, and the config that is written, if one is."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        parser, said = ArgumentParser(), ""
        Init.add_arguments(parser)
        try:
            code = Init.execute(parser.parse_args([*map(str, arguments)]))
        except HfoptError as error:
            code, said = error.exit_code, f"{error}\n"
        written = tmp_path / "config.json"
        return code, capsys.readouterr().out + said, read(written) if written.exists() else None

    return run


def read(file):
    """JSON without the lines that are comments."""
    lines = file.read_text("utf-8").split("\n")
    return json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))


def params_of(config):
    return config["data_configs"][0]["params_config"]


def test_a_classifier_and_a_csv_with_the_names_of_its_classes_make_a_whole_config(init, make_model, write_csv):
    make_model({**CLASSIFIER, **NAMED})
    write_csv(["id", "text", "label"], [(number, *row) for number, row in enumerate(ROWS)])

    code, shown, config = init("model", "--data", "rows.csv")

    assert code == 0
    assert shown == (
        "wrote config.json\n"
        "  model: model: bert, text-classification, classes rotten, fresh\n"
        "  data: rows.csv: csv, text in text, classes in label\n"
        "next: hfopt run config.json\n"
    )
    assert config["input_model"] == {
        "type": "PyTorchModel",
        "config": {"model_path": "./model", "hf_config": {"task": "text-classification"}},
    }
    assert params_of(config) == {
        "data_name": "csv",
        "data_files": "./rows.csv",
        "input_cols": ["text"],
        "label_cols": ["label"],
    }
    assert list(config["passes"]) == ["conversion", "fusion", "quantization", "tuning"]
    assert [metric["name"] for metric in config["evaluators"]["data"]["metrics"]] == ["accuracy", "latency", "size"]


def test_every_guess_has_a_comment_in_the_file(init, make_model, write_csv, tmp_path):
    make_model({**CLASSIFIER, **NAMED})
    write_csv(["id", "title", "text", "label"], [(1, "x y", *row) for row in ROWS])

    init("model", "--data", "rows.csv")

    text = (tmp_path / "config.json").read_text()
    assert "// The text (it might be id, title).\n" in text
    assert "// bert, by config.json for text-classification, classes rotten, fresh.\n" in text


def test_nothing_is_overwritten(init, make_model, tmp_path):
    make_model(CLASSIFIER)
    (tmp_path / "config.json").write_text("{}")

    code, shown, config = init("model")

    assert (code, config) == (2, {})
    assert shown == ("config.json is there already and is not overwritten\n  hint: name another file with -o\n")


def test_the_config_may_lie_elsewhere_and_its_paths_follow(init, make_model, write_csv, tmp_path):
    make_model({**CLASSIFIER, **NAMED})
    write_csv(["text", "label"], ROWS)
    (tmp_path / "one" / "two").mkdir(parents=True)

    assert init("model", "--data", "rows.csv", "-o", "one/near.json")[0] == 0
    assert init("model", "--data", "rows.csv", "-o", "one/two/far.json")[0] == 0

    near, far = (read(tmp_path / "one" / name) for name in ("near.json", "two/far.json"))
    assert near["input_model"]["config"]["model_path"] == "../model"
    assert far["input_model"]["config"]["model_path"] == str(tmp_path / "model")


@pytest.mark.parametrize(
    ("header", "rows", "inputs"),
    [
        (["Sentence1", "sentence2", "label"], [("a", "b", 1)], ["Sentence1", "sentence2"]),
        (["label", "hypothesis", "premise"], [(1, "a b", "c d")], ["premise", "hypothesis"]),
        (["url", "abstract", "label"], [("h", "a long text", 0), ("i", "a longer text", 1)], ["abstract"]),
        (["review", "summary", "label"], [("short", "a very long summary", 0)], ["review"]),
    ],
    ids=["pair", "pair in the other order", "longest", "by name"],
)
def test_texts_are_found_by_name_or_length(init, make_model, write_csv, header, rows, inputs):
    make_model(CLASSIFIER)
    write_csv(header, rows)

    code, _, config = init("model", "--data", "rows.csv")

    assert code == 0
    assert params_of(config)["input_cols"] == inputs
    assert params_of(config)["label_cols"] == ["label"]


def test_a_column_that_holds_the_models_classes_is_the_label_whatever_its_name(init, make_model, write_csv):
    make_model({**CLASSIFIER, **NAMED})
    write_csv(["text", "verdict"], ROWS)

    assert params_of(init("model", "--data", "rows.csv")[2])["label_cols"] == ["verdict"]


def test_labels_that_the_model_does_not_know_are_left_out_and_said(init, make_model, write_csv):
    make_model({**CLASSIFIER, **NAMED})
    write_csv(["text", "label"], [("a good film", "excellent"), ("a bad film", "awful")])

    code, shown, config = init("model", "--data", "rows.csv")

    assert code == 0
    assert "label_cols" not in params_of(config)
    assert (
        "note: column 'label' holds 'excellent', and the model's classes are rotten, fresh: accuracy is not measured; "
        "label_cols would name the column\n"
    ) in shown
    assert [metric["name"] for metric in config["evaluators"]["data"]["metrics"]] == ["latency", "size"]


def test_a_row_without_its_label_is_said(init, make_model, tmp_path):
    make_model({**CLASSIFIER, **NAMED})
    (tmp_path / "rows.jsonl").write_text('{"text": "a film", "label": null}\n{"text": "a plot", "label": 1}\n')

    code, shown, config = init("model", "--data", "rows.jsonl")

    assert code == 0
    assert "note: column 'label' holds None, and the model's classes are rotten, fresh: accuracy is not" in shown
    assert "label_cols" not in params_of(config)


def test_data_without_labels_are_timed_on(init, make_model, write_csv):
    make_model(CLASSIFIER)
    write_csv(["text"], [("a good film",), ("a bad one",)])

    code, shown, config = init("model", "--data", "rows.csv")

    assert code == 0
    assert "note: no column holds the model's classes: accuracy is not measured" in shown
    assert [metric["name"] for metric in config["evaluators"]["data"]["metrics"]] == ["latency", "size"]


def test_without_data_only_the_size_is_measured(init, make_model):
    make_model(CLASSIFIER)

    code, shown, config = init("model")

    assert code == 0
    assert "note: without --data neither accuracy nor time is measured, only size\n" in shown
    assert list(config["passes"]) == ["conversion", "fusion", "quantization"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_other_formats_are_read_by_their_ending(init, make_model, tmp_path, name):
    make_model({**CLASSIFIER, **NAMED})
    rows = [{"text": text, "label": label} for text, label in ROWS]
    if name == "rows.jsonl":
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)) + "\n")
    elif name == "rows.json":
        (tmp_path / name).write_text(json.dumps(rows))
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)

    code, _, config = init("model", "--data", name)

    assert code == 0
    assert params_of(config)["data_name"] == ("parquet" if name == "rows.parquet" else "json")
    assert params_of(config)["label_cols"] == ["label"]


def test_a_model_without_a_head_is_exported_and_its_data_are_left_out(init, make_model, write_csv):
    make_model({"model_type": "bert", "architectures": ["BertModel"]})
    write_csv(["text"], [("a good film",)])

    code, shown, config = init("model", "--data", "rows.csv")

    assert code == 0
    assert config["input_model"]["config"]["hf_config"] == {"task": "feature-extraction"}
    assert "data_configs" not in config
    assert "note: this version prepares data for text-classification only, not for feature-extraction" in shown


@pytest.mark.parametrize("attributes", [{"problem_type": "regression"}, {"id2label": {"0": "LABEL_0"}}])
def test_a_regression_is_not_measured_by_classes(init, make_model, write_csv, attributes):
    make_model({**CLASSIFIER, **attributes})
    write_csv(["text", "label"], [("a good film", 0.5)])

    code, shown, config = init("model", "--data", "rows.csv")

    assert code == 0
    assert "data_configs" not in config
    assert "prepares data for one class a row" in shown


def test_a_folder_of_onnx_needs_no_conversion_and_names_its_tokenizer(init, make_model, write_csv):
    make_model({**CLASSIFIER, **NAMED}, "onnx/model.onnx", "tokenizer.json")
    write_csv(["text", "label"], ROWS)

    code, _, config = init("model", "--data", "rows.csv")

    assert code == 0
    assert config["input_model"] == {"type": "ONNXModel", "config": {"model_path": "./model/onnx/model.onnx"}}
    assert params_of(config)["model_name"] == "./model"
    assert "conversion" not in config["passes"]


def test_an_onnx_file_without_a_tokenizer_is_measured_by_size_alone(init, make_model, write_csv):
    make_model(None, "model.onnx")
    write_csv(["text", "label"], ROWS)

    code, shown, config = init("model/model.onnx", "--data", "rows.csv")

    assert code == 0
    assert list(config["passes"]) == ["quantization"]
    assert "there is no tokenizer beside model/model.onnx: neither accuracy nor time is measured" in shown


def test_a_model_on_the_hub_is_looked_up_there_and_later_in_the_cache(hub, tmp_path, write_csv):
    hub.add_model("acme/films", {"config.json": json.dumps({**CLASSIFIER, **NAMED}).encode()})
    write_csv(["text", "label"], ROWS)
    command = [sys.executable, "-m", "hfopt", "init", "acme/films", "--data", "rows.csv", "-o"]

    def run(name, **more):
        environment = {**os.environ, **hub.environment, **more}
        return subprocess.run([*command, name], cwd=tmp_path, env=environment, capture_output=True, text=True)

    online, offline = run("one.json"), run("two.json", HF_HUB_OFFLINE="1")

    assert (online.returncode, offline.returncode) == (0, 0), online.stderr + offline.stderr
    config = read(tmp_path / "one.json")
    assert config["input_model"]["config"] == {"hf_config": {"model_name": "acme/films", "task": "text-classification"}}
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_a_model_with_older_weights_is_one(init, make_model, write_csv, weights):
    make_model(CLASSIFIER, weights, name="older")
    write_csv(["text", "label"], [("x", 0), ("y", 1)])

    code, _, config = init("older")

    assert code == 0
    assert config["input_model"]["config"]["hf_config"]["task"] == "text-classification"


MODELS = {
    "nowhere": ("./modle", "there is no folder ./modle\n  hint: did you mean 'model'?\n"),
    "file": ("rows.csv", "rows.csv is a file, and no ONNX model\n"),
    "empty": ("empty", "empty is no model: it has neither config.json with weights"),
    "several": ("several", "several holds 2 ONNX files: decoder.onnx, encoder.onnx\n  hint: name one of them\n"),
    "damaged": ("damaged", "config.json is not JSON: "),
}


@pytest.mark.parametrize("case", MODELS)
def test_what_is_no_model_is_said_in_a_sentence(init, make_model, write_csv, case, tmp_path):
    make_model(CLASSIFIER)
    write_csv(["text"], [("x",)])
    (tmp_path / "empty").mkdir()
    make_model(None, "encoder.onnx", "decoder.onnx", name="several")
    make_model(None, name="damaged")
    (tmp_path / "damaged" / "config.json").write_text("{")
    name, message = MODELS[case]

    code, shown, config = init(name)

    assert (code, config) == (2, None)
    assert message in shown


FILES = {
    "none.csv": (None, "there is no file none.csv\n"),
    "empty.csv": (b"", "empty.csv has no rows\n"),
    "only_header.csv": (b"text,label\n", "only_header.csv has no rows\n"),
    "latin.csv": ("text,label\ncaf\xe9,1\n".encode("latin-1"), "latin.csv is not text in UTF-8\n"),
    "tabs.tsv": (b"text\tlabel\nx\t1\n", "tabs.tsv can't be read as csv: its columns are not separated by commas\n"),
    "wide.csv": (b"text\nx,y\n", "wide.csv can't be read as csv: line 2 has more fields than the first line names\n"),
    "twice.csv": (b"a,a\nx,y\n", "its first line does not name every column once\n"),
    "list.json": (b"[1, 2]", "it holds other things than objects, one for each row\n"),
    "broken.jsonl": (b'{"a": 1}\n{', "broken.jsonl can't be read as json: "),
    "no.parquet": (b"PAR1", "no.parquet can't be read as parquet: "),
    "rows.xlsx": (b"PK", "rows.xlsx: its format is unknown\n"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_are_no_data_is_said_in_a_sentence(init, make_model, tmp_path, name):
    make_model(CLASSIFIER)
    content, message = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)

    code, shown, config = init("model", "--data", name)

    assert (code, config) == (2, None)
    assert message in shown


VALUES = st.none() | st.text(max_size=8) | st.integers(-2, 3) | st.floats() | st.booleans() | st.lists(st.integers())
ROWS_OF_TWO = st.lists(VALUES, min_size=2, max_size=2)
TABLES = st.dictionaries(st.text(min_size=1, max_size=6), ROWS_OF_TWO, min_size=1, max_size=4)


@settings(deadline=None)
@given(TABLES, st.sampled_from([(), ("rotten", "fresh")]))
def test_any_table_yields_a_config_that_its_reader_understands(tmp_path_factory, columns, labels):
    folder = tmp_path_factory.getbasetemp()
    data = Data(folder / "rows.csv", "csv", columns)
    model = Model("model", folder / "model", task="text-classification", labels=labels, classes=2)

    label, _ = label_column(data, labels, 2)
    guess = compose(model, data, folder)

    assert label not in text_columns(data, label)
    (folder / "any.json").write_text(render(guess.config, guess.comments), "utf-8")
    assert read(folder / "any.json") == guess.config


def test_fusion_is_offered_for_the_architectures_that_the_pass_knows():
    from hfopt_ort_passes.fusion_options import ORT_MODEL_TYPES

    assert ORT_MODEL_TYPES.keys() == FUSED


def test_only_the_first_rows_are_read(tmp_path):
    with open(tmp_path / "rows.jsonl", "w") as stream:
        stream.writelines('{"text": "x"}\n' for _ in range(1_000))
        stream.write("not json\n")

    assert len(look_at_data(tmp_path / "rows.jsonl").columns["text"]) == 1_000


def test_a_model_is_looked_at_without_its_weights(tmp_path, make_model):
    folder = make_model({**CLASSIFIER, **NAMED})

    model = look_at_model(str(folder))

    assert (model.task, model.labels, model.classes, model.tokenizer) == (
        "text-classification",
        ("rotten", "fresh"),
        2,
        True,
    )
