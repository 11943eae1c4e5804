"""HuggingfaceContainer: what a mistake in options or data is told."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import datasets
import pytest

from hfopt import PreconditionFailed
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_data_containers.spellings import SpelledSection
from hfopt_hf_data.config import HuggingfaceContainerConfig, LoadDataset
from hfopt_hf_data.container import HuggingfaceContainer


def mistakes(folder, defaults=None, **params):
    problems = []
    written = {"data_name": "csv", "data_files": "rows.csv", "model_name": ".", **params}
    filled = HuggingfaceContainer.read(SpelledSection(params_config=written), defaults or {}).params
    validate(HuggingfaceContainerConfig, filled, (), problems, ConfigContext(folder))
    return [(".".join(map(str, problem.path)), problem.message, problem.hint) for problem in problems]


FORMATS = "no format of data_files named {!r}; there is arrow, csv, json, parquet, text, audiofolder, imagefolder"


TASKS = (
    "data are prepared for audio-classification, automatic-speech-recognition, feature-extraction, fill-mask, "
    "image-classification, question-answering, summarization, text2text-generation, text-classification, "
    "text-generation, token-classification and translation"
)


@pytest.mark.parametrize(
    ("params", "place", "message", "hint"),
    [
        ({"data_name": "glue"}, "", FORMATS.format("glue"), None),
        ({"data_name": "jsonl"}, "", FORMATS.format("jsonl"), "did you mean 'json'?"),
        (
            {"data_name": "./none", "data_files": None},
            "data_name",
            "no such folder: ./none; and it is neither arrow, csv, json, parquet, text, audiofolder or imagefolder nor "
            "the name of a dataset on the hub",
            None,
        ),
        ({"subset": "mrpc"}, "", "subset is of a dataset, and csv is a format", None),
        ({"revision": "v1"}, "", "revision is of a dataset on the hub, and the data are local", None),
        ({"data_dir": "data"}, "data_dir", "no such file or folder: data", None),
        (
            {"data_name": "imagefolder", "data_files": None},
            "",
            "data_files or data_dir is required, as imagefolder is a format",
            None,
        ),
        (
            {"data_name": "imagefolder", "data_dir": "."},
            "data_dir",
            "data_files says where the files are: keep one of the two",
            None,
        ),
        (
            {"data_name": "acme/films", "data_files": None, "data_dir": "."},
            "data_dir",
            "is of a format, and acme/films is a dataset",
            None,
        ),
        ({"data_name": None}, "", "data_name is required", None),
        ({"data_files": None}, "", "data_files is required, as csv is a format", None),
        ({"data_files": "none.csv"}, "data_files", "no such file or folder: none.csv", None),
        ({"data_files": {"test": ["none.csv"]}}, "data_files.test.0", "no such file or folder: none.csv", None),
        (
            {"model_name": "./none"},
            "model_name",
            "no such folder: ./none; and it is not the name of a model on the hub",
            None,
        ),
        (
            {"split": "train[:abc]"},
            "split",
            "'train[:abc]' is not a split: write it as validation, train[:100] or train[:10%]+test",
            None,
        ),
        (
            {"input_cols": ["a", "b", "c"]},
            "input_cols",
            "takes one column of text, or two for pairs of texts, not 3",
            None,
        ),
        (
            {"padding": False, "batch_size": 2},
            "",
            "padding is off, so batch_size can't be more than 1: rows that share a batch must have the same length",
            None,
        ),
        ({"max_samples": 0}, "max_samples", "must be at least 1", None),
        ({"padding_side": "left"}, "padding_side", "unknown key", "did you mean 'padding'?"),
        (
            {"component_kwargs": {"pre_process_data": {"max_lenght": 3}}},
            "component_kwargs.pre_process_data.max_lenght",
            "unknown key",
            "did you mean 'max_length'?",
        ),
        (
            {"component_kwargs": {"pre_process": {}}},
            "component_kwargs.pre_process",
            "unknown key",
            "did you mean 'pre_process_data'?",
        ),
        ({"task": "depth-estimation"}, "task", f"{TASKS}; not for depth-estimation", None),
        (
            {"task": "fill-mask", "max_answer_length": 9},
            "max_answer_length",
            "is of question-answering, and the task is fill-mask",
            None,
        ),
    ],
)
def test_a_mistake_in_options_is_found_at_its_place_without_reading_data(tmp_path, params, place, message, hint):
    (tmp_path / "rows.csv").touch()

    assert mistakes(tmp_path, **params) == [(place, message, hint)]


def test_what_olive_s_configs_hold_besides_is_accepted(tmp_path):
    (tmp_path / "rows.csv").touch()
    unwritten = dict.fromkeys(("subset", "data_dir", "split", "max_length", "component_kwargs", "task"))
    nested = {"pre_process_data": {"padding": "max_length", "max_length": 128, "batched": True}, "load_dataset": None}

    assert mistakes(tmp_path, **unwritten, trust_remote_code=True) == []
    assert mistakes(tmp_path, component_kwargs=nested) == []


def test_asking_for_what_is_done_anyway_is_accepted(tmp_path):
    (tmp_path / "rows.csv").touch()
    nested = {"load_dataset": {"token": True}, "pre_process_data": {"align_labels": True, "pad_to_max_len": False}}

    assert mistakes(tmp_path, component_kwargs=nested) == []
    assert mistakes(tmp_path, align_labels=True, use_auth_token=True, drop_short_sequences=False) == []


def test_what_load_dataset_takes_and_changes_no_row_is_left_out_with_a_notice(tmp_path):
    (tmp_path / "rows.csv").touch()
    around = ConfigContext(tmp_path)
    written = {"data_name": "csv", "data_files": "rows.csv", "num_proc": 4, "streaming": False}

    config = validate(HuggingfaceContainerConfig, written, (), [], around)

    assert config.num_proc is None
    assert around.notices == [
        "num_proc is ignored: rows are read and tokenised once, into the cache of the run",
    ]


def test_every_argument_of_load_dataset_is_known():
    arguments = set(inspect.signature(datasets.load_dataset).parameters)

    assert arguments - {"path", "name", "config_kwargs"} <= set(LoadDataset.model_fields)


@pytest.mark.parametrize("token", [False, "hf_secret"])
def test_a_token_in_a_config_is_refused_and_not_echoed(tmp_path, token):
    (tmp_path / "rows.csv").touch()
    because = "the token is that of the environment or of a login, and none is written here: true, or left out"

    assert mistakes(tmp_path, component_kwargs={"load_dataset": {"token": token}}) == [
        ("component_kwargs.load_dataset.token", because, None)
    ]


WRITES = {"task": "text-generation", "text_cols": ["text"], "source_max_len": 8}
OF_TEXT = "is of text-generation, and the task is text-classification"
NOT_OF_TEXT = "is not of text-generation, whose texts are in text_cols and whose labels are their own tokens"


@pytest.mark.parametrize(
    ("written", "option", "message"),
    [
        ({"task": "text-classification", "text_cols": ["text"]}, "text_cols", OF_TEXT),
        ({"task": "text-classification", "pad_to_max_len": True}, "pad_to_max_len", OF_TEXT),
        ({"text_cols": ["text"]}, "", "source_max_len is required: the most tokens of a sequence"),
        ({**WRITES, "input_cols": ["text"]}, "input_cols", NOT_OF_TEXT),
        ({**WRITES, "source_max_len": None}, "", "source_max_len is required: the most tokens of a sequence"),
        ({**WRITES, "max_seq_len": 9}, "max_seq_len", "source_max_len has another value: keep one of the two"),
        (
            {**WRITES, "text_cols": None},
            "",
            "text_cols is required: the columns of text; or text_template, or text_formatting_func",
        ),
        (
            {**WRITES, "pad_to_max_len": True, "drop_short_sequences": True},
            "drop_short_sequences",
            "goes with pad_to_max_len: false, as nothing is short once padded",
        ),
        (
            {**WRITES, "corpus_strategy": "join-random"},
            "max_samples",
            "is required: corpus_strategy is join-random",
        ),
        (
            {**WRITES, "strategy": "line-by-line-random", "max_samples": 2},
            "random_seed",
            "is required: corpus_strategy is line-by-line-random",
        ),
        (
            {**WRITES, "corpus_strategy": "join-sliding-window", "stride": 9},
            "stride",
            "is more than source_max_len: the tokens between two windows would be lost",
        ),
        ({**WRITES, "target_max_len": 9}, "target_max_len", "is of dataset_type: pair"),
        ({**WRITES, "text_cols": None, "dataset_type": "pair"}, "target_max_len", "is required: dataset_type is pair"),
        (
            {**WRITES, "text_formatting_func": "worded"},
            "user_script",
            "is required: text_formatting_func names a function of it",
        ),
        (
            {**WRITES, "text_template": "{text"},
            "text_template",
            "'{text' is not a template: expected '}' before end of string",
        ),
        (
            {**WRITES, "text_template": "text"},
            "text_template",
            "'text' is not a template: it names columns in braces, such as {text}",
        ),
    ],
)
def test_options_of_texts_that_do_not_go_together_are_found_at_their_place(tmp_path, written, option, message):
    (tmp_path / "rows.csv").touch()
    nested = {"component_kwargs": {"pre_process_data": written}}

    for params, outer in ((written, ()), (nested, ("component_kwargs", "pre_process_data") if option else ())):
        assert mistakes(tmp_path, **params) == [(".".join((*outer, *filter(None, [option]))), message, None)]


def test_a_model_of_another_task_says_so_of_its_data(tmp_path):
    (tmp_path / "rows.csv").touch()

    assert mistakes(tmp_path, {"task": "mask-generation", "model_name": "."}) == [
        ("task", f"{TASKS}; not for mask-generation", None)
    ]


def refusal(prepare, **params):
    with pytest.raises(PreconditionFailed) as failure:
        prepare(**params)
    file, colon, said = failure.value.message.partition("rows.csv: ")
    return (said if colon else file), failure.value.hint


@pytest.mark.parametrize(
    ("params", "message", "hint"),
    [
        ({"input_cols": "txet"}, "the data have no column 'txet'; they have text, label", "did you mean 'text'?"),
        ({"label_cols": "stars"}, "the data have no column 'stars'; they have text, label", None),
        (
            {"data_files": {"train": "rows.csv", "test": "rows.csv"}, "split": "tset"},
            "the data have no split 'tset'; they have train, test",
            "did you mean 'test'?",
        ),
        (
            {"data_files": {"train": "rows.csv", "test": "rows.csv"}},
            "the data have no split 'validation'; they have train, test",
            None,
        ),
        ({"split": "train[:0]"}, "can't read rows from {file} as csv: Instruction", None),
        ({"data_name": "parquet"}, "{file} can't be read as parquet: Parquet magic bytes not found", None),
        ({"data_name": "json"}, "{file} is not JSON: Expecting value", None),
    ],
)
def test_what_the_data_have_not_is_named(prepare, write_csv, tmp_path, params, message, hint):
    write_csv(("good", 1))

    found = refusal(prepare, **params)

    assert (found[0].startswith(message.format(file=tmp_path / "rows.csv")), found[1]) == (True, hint), found


@pytest.mark.parametrize(("content", "message"), [("", "{} is empty"), ("text,label\n", "{} has no rows")])
def test_an_empty_file_is_refused(prepare, tmp_path, content, message):
    (tmp_path / "rows.csv").write_text(content)

    assert refusal(prepare)[0].startswith(message.format(tmp_path / "rows.csv"))


def test_two_columns_of_text_are_not_chosen_between(prepare, write_csv):
    write_csv(("good", "bad", 1), header="one,two,label")

    assert refusal(prepare) == ("which column holds the text? The columns are one, two, label", "set input_cols")


@pytest.mark.parametrize(
    ("label", "message", "hint"),
    [
        ("rottn", "row 1: label 'rottn' is not one of the model's; they are rotten, fresh", "did you mean 'rotten'?"),
        ("", "row 1 has no label", None),
    ],
)
def test_a_name_that_is_no_label_of_the_model_is_refused(prepare, write_csv, label, message, hint):
    write_csv(("good", "fresh"), ("bad", label))

    assert refusal(prepare, input_cols="text") == (message, hint)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (2, "row 1: label 2 is not one of the model's, which are 0 to 1"),
        (-1, "row 1: label -1 is not one of the model's, which are 0 to 1"),
        (0.5, "row 1: label 0.5 is neither an integer nor a name"),
    ],
)
def test_a_number_that_is_no_class_of_the_model_is_refused(prepare, write_csv, label, message):
    write_csv(("good", 1), ("bad", label))

    assert refusal(prepare) == (message, None)


def test_without_a_models_config_any_integer_is_a_label(prepare, write_csv, model_folder, tmp_path):
    write_csv(("good", 5))
    tokenizer_only = Path(shutil.copytree(model_folder, tmp_path / "tokenizer"))
    (tokenizer_only / "config.json").unlink()

    assert next(prepare(model=tokenizer_only).batches()).labels.tolist() == [5]


def test_a_row_without_text_is_named(prepare, write_csv):
    write_csv(("good", 1), ("NA", 0))

    assert refusal(prepare, input_cols="text") == (
        "row 1 has nothing in column 'text'",
        "leave such rows out; in csv files, words such as NA and null are read as missing values",
    )


def test_a_column_of_numbers_is_not_text(prepare, write_csv):
    write_csv(("good", 1))

    assert refusal(prepare, input_cols="label") == ("row 0 has 1 in column 'label', which is not text", None)


def test_where_neither_model_nor_config_names_a_tokenizer_that_is_said(prepare, write_csv):
    write_csv(("good", 1))

    assert refusal(prepare, model=None) == (
        "the input model has no tokenizer",
        "set model_name to a folder that has one",
    )


def test_a_folder_without_tokenizer_is_refused(prepare, write_csv, tmp_path):
    write_csv(("good", 1))
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text('{"model_type": "bert"}')

    message, _ = refusal(prepare, model=empty)

    assert message.startswith(f"{empty} has no tokenizer that transformers can read: ")


def test_padding_to_a_length_that_nothing_states_is_refused(prepare, write_csv, model_folder, tmp_path):
    write_csv(("good", 1))
    unlimited = Path(shutil.copytree(model_folder, tmp_path / "unlimited"))
    text = (unlimited / "tokenizer_config.json").read_text()
    (unlimited / "tokenizer_config.json").write_text(text.replace('"model_max_length": 8', '"model_max_length": 1e30'))

    assert refusal(prepare, model=unlimited, padding="max_length") == (
        "padding is max_length, and neither the config nor the tokenizer states a length",
        "set max_length",
    )
