"""PyTorchModel: what is wrong with a model's files is found when it is described, and named."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from hfopt import Accelerator, FetchContext, PreconditionFailed
from hfopt_hf_model_loader import tensors
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

FIRST, SECOND = "bert.embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.weight"
INDEX = "model.safetensors.index.json"


def loader(place: Path) -> PyTorchModel:
    options = {"model_path": str(place), "hf_config": {"task": "text-classification"}}
    return PyTorchModel(PyTorchModelConfig.model_validate(options, strict=False))


def fetch(place: Path):
    return loader(place).fetch(FetchContext(place.parent, lambda *_: None))


def refusal(place: Path) -> str:
    with pytest.raises(PreconditionFailed) as failure:
        fetch(place)
    return failure.value.message.replace(f"{place}/", "")


def change_config(place: Path, **changes: object) -> None:
    file = place / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_header(place: Path, change) -> None:
    file = place / "model.safetensors"
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    text = (change(header) or json.dumps(header)).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


TENSORS = {
    "overlap": ({"data_offsets": [0, 64]}, f"the data of {SECOND!r} overlap those of {FIRST!r}"),
    "gap": (
        {"data_offsets": [2**40, 2**40 + 64]},
        "before those of 'bert.embeddings.position_embeddings.weight'",
    ),
    "negative": ({"data_offsets": [-4, 60]}, f"{SECOND!r} has [-4, 60] as its data_offsets"),
    "reversed": ({"data_offsets": [64, 0]}, f"{SECOND!r} has [64, 0] as its data_offsets"),
    "huge": ({"data_offsets": [0, 10**30]}, f"{SECOND!r} has [0, 1000000000000000000000000000000] as its data_offsets"),
    "dtype": ({"dtype": "F33"}, f"{SECOND!r} is of a dtype that safetensors has not: 'F33'"),
    "shape": ({"shape": [7]}, f"{SECOND!r} takes 28 bytes as F32 of the shape [7], and its data_offsets span 64"),
    "overflow": ({"shape": [2**40, 2**40]}, f"{SECOND!r} takes 4835703278458516698824704 bytes as F32"),
    "axes": ({"shape": [2**40] * 9999}, f"{SECOND!r} has [1099511627776,"),
    "nothing": ({"shape": None}, f"{SECOND!r} has None as its shape"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_damaged_header_is_told_with_the_tensor(broken, case):
    changes, said = TENSORS[case]
    change_header(broken, lambda header: header[SECOND].update(changes))

    assert refusal(broken).startswith("model.safetensors is damaged: ")
    assert said in refusal(broken)


def test_a_header_that_is_nested_doubled_or_empty_is_told(broken):
    change_header(
        broken, lambda header: f"{json.dumps(header)[:-1]}, {json.dumps(FIRST)}: {json.dumps(header[SECOND])}}}"
    )
    assert refusal(broken) == f"model.safetensors is damaged: its header names {FIRST!r} twice"

    change_header(broken, lambda _: '{"a":' * 100_000)
    assert refusal(broken) == "model.safetensors is not a safetensors file: its header is nested too deeply"

    (broken / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert refusal(broken) == "model.safetensors has no tensors"


def test_a_file_of_gigabytes_costs_its_header_alone(broken):
    change_header(broken, lambda header: header.update(zeros=large(header)))
    with open(broken / "model.safetensors", "r+b") as stream:
        stream.truncate(stream.seek(0, os.SEEK_END) + 40_000_000_000)

    assert tensors.shapes(broken / "model.safetensors")["zeros"] == (10_000_000_000,)


def large(header: dict) -> dict:
    end = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    return {"dtype": "F32", "shape": [10**10], "data_offsets": [end, end + 40_000_000_000]}


def test_an_index_that_names_a_tensor_which_its_file_lacks_is_told(broken):
    (broken / "model.safetensors").rename(broken / "one.safetensors")
    for places, said in (
        ({"a": "one.safetensors"}, f"{INDEX} has 'a' in one.safetensors, which lacks it"),
        ({"a": "two.safetensors"}, f"{INDEX} names 'two.safetensors', which is missing"),
        ({"a": ".."}, f"{INDEX} names '..', which is not a file of its folder"),
        ({"a": 5}, f"{INDEX} is not an index of weights"),
    ):
        (broken / INDEX).write_text(json.dumps({"weight_map": places}))

        assert refusal(broken) == said


SIZES = {
    "layers, a billion": (
        {"num_hidden_layers": 10**9},
        "'num_hidden_layers' is 1000000000, and the weights",
    ),
    "layers, in a part": ({"text": {"n_layers": 10**9}}, "'n_layers' is 1000000000"),
    "layers, 4,000 digits": ({"num_hidden_layers": 10**4000}, "'num_hidden_layers' is a number of 4001 digits"),
    "layers, a thousand": ({"num_hidden_layers": 1000}, "far more layers than the 25 tensors are of"),
    "layers, one more": ({"num_hidden_layers": 2}, "it has 2 of bert.encoder.layer, and the weights have no"),
    "layers, none": ({"num_hidden_layers": 0}, "is in the weights, and it has 0 of bert.encoder.layer"),
    "layers, negative": ({"num_hidden_layers": -1}, "is in the weights, and it has 0 of bert.encoder.layer"),
    "layers, a float": ({"num_hidden_layers": 1.5}, "transformers can't "),
    "layers, a word": ({"num_hidden_layers": "1"}, "transformers can't "),
    "heads, none": (
        {"num_attention_heads": 0},
        "transformers can't build BertForSequenceClassification",
    ),
    "heads, negative": ({"num_attention_heads": -2}, "'num_attention_heads' is -2"),
    "heads, that don't divide": ({"num_attention_heads": 3}, "not a multiple of the number of attention heads (3)"),
    "hidden, of another size": ({"hidden_size": 32}, f"{FIRST!r} is [16] in the weights, and would be [32]"),
    "hidden, a trillion": ({"hidden_size": 10**12}, "far more than the "),
    "words, of another number": (
        {"vocab_size": 31},
        "[30, 16] in the weights, and would be [31, 16]",
    ),
    "words, a trillion": ({"vocab_size": 10**12}, "one weight alone is [1000000000000, 16]"),
    "positions, a trillion": ({"max_position_embeddings": 10**12}, "one weight alone is [1000000000000, 16]"),
    "labels, a billion": ({"num_labels": 10**9}, "'num_labels' is 1000000000"),
    "architectures": ({"architectures": 5}, "config.json: architectures must be a list of names"),
    "attention from the hub": ({"_attn_implementation": "a/b"}, "_attn_implementation is code from the hub"),
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_that_are_not_those_of_the_weights_are_told_before_anything_is_built(broken, case):
    changes, said = SIZES[case]
    change_config(broken, **changes)

    assert said in refusal(broken)
    assert "config.json" in refusal(broken)


def test_weights_that_the_class_does_not_have_are_no_mistake(broken):
    from safetensors.numpy import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    more = dict.fromkeys(("cls.predictions.bias", "bert.embeddings.position_ids", "layer.9.x"), weights[FIRST])
    save_file(weights | more, broken / "model.safetensors", metadata={"format": "pt"})

    assert fetch(broken).files == (broken / "model.safetensors",)


TEXTS = {
    "empty": (b"", "is not JSON: Expecting value"),
    "list": (b"[]", "is not a JSON object"),
    "nested": (b"[" * 100_000, "is nested too deeply"),
    "NaN": (b'{"a": NaN}', "is not JSON: NaN is not a finite number"),
    "digits": (b'{"a": %s}' % (b"9" * 5000), "is not JSON: Exceeds the limit (4300 digits)"),
    "large": (b" " * 20_000_001, "has 20000001 bytes; at most 20000000 are read"),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_config_that_is_damaged_is_told_with_its_name(broken, name, case):
    text, said = TEXTS[case]
    (broken / name).write_bytes(text)

    assert refusal(broken).startswith(f"{name} {said}")


PLACES = {
    "a named pipe": (os.mkfifo, "is a named pipe, not a regular file"),
    "a folder": (os.mkdir, "is a folder, not a regular file"),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "is at /dev/zero, which lies outside of"),
    "a link out": (lambda file: file.symlink_to("/etc/passwd"), "is at /etc/passwd, which lies outside of"),
    "a link to itself": (lambda file: file.symlink_to(file), ": no such file"),
    "a link to nothing": (lambda file: file.symlink_to("nowhere"), ": no such file"),
}


@pytest.mark.parametrize("case", PLACES)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "merges.txt"])
def test_what_is_no_file_of_the_folder_is_neither_read_nor_handed_on(broken, name, case):
    make, said = PLACES[case]
    (broken / name).unlink(missing_ok=True)
    make(broken / name)

    assert refusal(broken).startswith(name)
    assert said in refusal(broken)


def test_a_vocabulary_without_bound_is_refused(broken):
    with open(broken / "vocab.txt", "wb") as stream:
        stream.truncate(10**9)

    assert refusal(broken) == "vocab.txt has 1000000000 bytes; a vocabulary has at most 200000000"


def test_links_within_the_hubs_cache_are_followed(broken):
    repository = broken.parent / "models--a--b"
    (repository / "snapshots").mkdir(parents=True)
    revision = broken.rename(repository / "snapshots" / "0123")
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(revision.iterdir())):
        file.rename(repository / "blobs" / str(number))
        file.symlink_to(f"../../blobs/{number}")

    assert fetch(revision).files == (revision / "model.safetensors",)


def test_a_message_that_points_at_a_report_says_what_is_in_it(broken):
    handle = fetch(broken)
    change_config(broken, vocab_size=31)

    with pytest.raises(PreconditionFailed) as failure:
        loader(broken).open(handle, Accelerator(), {})

    assert "bert.embeddings.word_embeddings.weight MISMATCH" in failure.value.message
    assert "torch.Size([30, 16])" in failure.value.message


def test_outputs_have_names_whatever_the_config_says(broken):
    import numpy as np

    change_config(broken, return_dict=False)

    with loader(broken).open(fetch(broken), Accelerator(), {}) as session:
        assert list(session.run({"input_ids": np.array([[2, 5, 3]])})) == ["logits"]
