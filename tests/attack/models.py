"""Hostile models: small ones that are made here and damaged in every way that is known, then at random.

Most are fetched, opened and run by the plugins' own classes, in a process forked from one that has imported what they
import; some by a whole `hfopt run`.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import struct
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import Any

from world import Attempt, broken, hfopt, raised

TITLE, LEAST, SHARE = "hostile models", 70, 3

SECONDS, MEBIBYTES = 60, 1500
SECRET = "what lies outside of the model"
PRELOAD = (
    *("torch", "transformers.modeling_utils", "transformers.models.bert.modeling_bert", "onnx", "onnxruntime"),
    *("hfopt_hf_model_loader.loader", "hfopt_hf_model_loader.session", "hfopt_hf_model_loader.sizes"),
    *("hfopt_onnx_model.loader", "hfopt_onnx_model.graph", "hfopt_onnx_model.session"),
)
BILLION, TRILLION = 10**9, 10**12
SINGLE, INDEX, ONNX = "model.safetensors", "model.safetensors.index.json", "model.onnx"
REFUSED = (1, 2, 3)


@dataclass(frozen=True)
class Ended:
    """How it went in a process of its own.

    :param sentence: why it was refused; None: it runs
    :param trace: of what was not foreseen
    :param files: what the handle says that the model is
    """

    sentence: str | None = None
    trace: str | None = None
    files: tuple[str, ...] = ()


def attempts(random: random.Random) -> Iterator[Attempt]:
    """By hand, shuffled so that a small budget tries some of each kind; then at random without end."""
    berts = {**_headers(), **_configs(), **_files(), **_indexes()}
    by_hand = [
        *(Attempt(f"hfopt run, {name}", _run_attempt(*kind)) for name, kind in WHOLE.items()),
        *(Attempt(f"bert, {name}", _attempt(_bert, *kind)) for name, kind in berts.items()),
        *(Attempt(f"onnx, {name}", _attempt(_onnx, *kind)) for name, kind in _graphs().items()),
    ]
    random.shuffle(by_hand)
    yield from by_hand
    while True:
        seed = random.randrange(2**32)
        kind, make = random.choice([("header", _bert), ("config", _bert), ("tokenizer", _bert), ("graph", _onnx)])
        yield Attempt(f"{kind}, seed {seed}", _attempt(make, _at_random(kind, seed), None))


Damage = Callable[[Path], object]
Kinds = dict[str, tuple[Damage, str | None]]
"""By name: what it does to a model's folder, and what the sentence must match; "" if any does, None if it may work."""


def _attempt(make: Callable[[], Path], damage: Damage, said: str | None) -> Callable[[Path], str | None]:
    def attempt(folder: Path) -> str | None:
        model = folder / "model"
        shutil.copytree(make(), model)
        outside = folder / "outside.txt"
        outside.write_text(SECRET)
        damage(model)
        return _wrong(model, said) or ("wrote outside" if outside.read_text() != SECRET else None)

    return attempt


def _wrong(model: Path, said: str | None) -> str | None:
    """What does not hold when a folder is used as a model."""
    pipe, theirs = multiprocessing.Pipe(duplex=False)
    process = _context().Process(target=_use, args=(model, theirs))
    process.start()
    theirs.close()
    try:
        if not pipe.poll(SECONDS):
            process.kill()
            return f"did not end within {SECONDS} s"
        ended, mebibytes = pipe.recv()
    except EOFError:
        process.join()
        return f"the process ended with {process.exitcode}"
    finally:
        pipe.close()
        process.join(SECONDS)
    if ended.trace:
        return f"a traceback: {ended.trace}"
    if mebibytes > MEBIBYTES:
        return f"took {mebibytes:.0f} MiB"
    if ended.sentence is None:
        outside = [file for file in ended.files if not Path(file).resolve().is_relative_to(model)]
        return f"takes {outside[0]}" if outside else ("was not refused" if said is not None else None)
    if SECRET in ended.sentence or len(ended.sentence) > 1500 or re.search(r"[\x00-\x09\x0b-\x1f]", ended.sentence):
        return f"is no sentence: {ended.sentence[:300]!r}"
    return None if said is None or re.search(said, ended.sentence) else f"does not name {said}: {ended.sentence}"


@cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    return context


def _use(model: Path, answer: Connection) -> None:
    """In a process of its own: fetch, open and run."""
    import numpy as np

    from hfopt import Accelerator, FetchContext
    from hfopt.worker.serve import fault_of

    gc.disable()  # it would touch, and so copy, all that was imported before the fork
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files: list[str] = []

    def use() -> None:
        loader = _loader(model)
        handle = loader.fetch(FetchContext(model.parent, lambda *_: None))
        handle.model_dump_json()
        files.extend(map(str, handle.every_file))
        with type(loader)(type(loader).Config(**handle.config)).open(handle, Accelerator(), {"threads": 1}) as session:
            session.run({"input_ids": np.array([[2, 5, 3]]), "attention_mask": np.array([[1, 1, 1]])})

    error = raised(use)
    ended = Ended(files=tuple(files))
    if error is not None:
        fault = fault_of(error)
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{fault.message}\n{fault.hint}"
        ended = Ended(sentence=told) if fault.expected else Ended(trace=f"{told} ({last.filename}:{last.lineno})")
    peak = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    answer.send((ended, peak / 1024))


def _loader(model: Path) -> Any:
    from hfopt_hf_model_loader.loader import PyTorchModel
    from hfopt_onnx_model.loader import ONNXModel

    if (model / "is-onnx").exists():
        return ONNXModel(ONNXModel.Config.model_validate({"model_path": str(model)}, strict=False))
    options = {"model_path": str(model), "hf_config": {"task": "text-classification"}}
    return PyTorchModel(PyTorchModel.Config.model_validate(options, strict=False))


_MAKING = Lock()


def _once(make: Callable[[], Path]) -> Callable[[], Path]:
    """What is made by whichever attempt needs it first; they are tried in several threads."""
    made = cache(make)

    def get() -> Path:
        with _MAKING:
            return made()

    return get


@_once
def _bert() -> Path:
    """Two layers, 30 words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = Path(mkdtemp(prefix="attack-bert-"))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(25))]
    (place / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    BertForSequenceClassification(BertConfig(vocab_size=30, hidden_size=64, **sizes)).save_pretrained(place)
    return place


@_once
def _onnx() -> Path:
    """Embeddings, their mean, a classifier."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["embedded"]),
        helper.make_node("ReduceMean", ["embedded"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "classifier"], ["logits"]),
    ]
    numbers = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(numbers.random((30, 64), dtype=np.float32), "words"),
        numpy_helper.from_array(numbers.random((64, 2), dtype=np.float32), "classifier"),
    ]
    place = Path(mkdtemp(prefix="attack-onnx-"))
    graph = helper.make_graph(nodes, "tiny", [ids], [logits], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(place / ONNX))
    (place / "is-onnx").touch()
    return place


# What is done to the header of a safetensors file

FIRST, SECOND = "bert.embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.weight"


def _read_header(file: Path) -> tuple[dict[str, Any], bytes]:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _write_header(file: Path, header: str | bytes, data: bytes, length: int | None = None) -> None:
    text = header.encode() if isinstance(header, str) else header
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def _entry(field: str, value: Any) -> Damage:
    """One field of one tensor."""

    def damage(model: Path) -> None:
        header, data = _read_header(model / SINGLE)
        header[SECOND][field] = value(header) if callable(value) else value
        _write_header(model / SINGLE, json.dumps(header), data)

    return damage


def _header(change: Callable[[dict[str, Any]], str | None], length: Callable[[int], int] | None = None) -> Damage:
    """The whole header: a change of its dict, or another text."""

    def damage(model: Path) -> None:
        header, data = _read_header(model / SINGLE)
        text = change(header) or json.dumps(header)
        _write_header(model / SINGLE, text, data, None if length is None else length(len(text)))

    return damage


def _headers() -> Kinds:
    tensor = re.escape(SECOND)
    file = re.escape(SINGLE)

    def twice(header: dict[str, Any]) -> str:
        return f"{json.dumps(header)[:-1]}, {json.dumps(SECOND)}: {json.dumps(header[FIRST])}}}"

    def last(header: dict[str, Any]) -> None:
        del header[max(header.keys() - {"__metadata__"}, key=lambda name: header[name]["data_offsets"])]

    return {
        "overlap": (_entry("data_offsets", lambda header: header[FIRST]["data_offsets"]), tensor),
        "overlap of a new one": (_header(lambda header: header.update(extra=header[SECOND])), "extra"),
        "negative offset": (_entry("data_offsets", [-4, 252]), tensor),
        "huge offset": (_entry("data_offsets", [2**62, 2**62 + 256]), file),
        "offset beyond integers": (_entry("data_offsets", [0, 10**30]), tensor),
        "offset of 4,000 digits": (_entry("data_offsets", [0, 10**4000]), tensor),
        "offset of 6,000 digits": (
            _header(lambda header: json.dumps(header).replace("[64]", f"[{'9' * 6000}]", 1)),
            file,
        ),
        "offsets reversed": (_entry("data_offsets", lambda header: header[SECOND]["data_offsets"][::-1]), tensor),
        "offsets are floats": (_entry("data_offsets", [0.5, 256.5]), tensor),
        "three offsets": (_entry("data_offsets", [0, 1, 2]), tensor),
        "offsets are an object": (_entry("data_offsets", {"0": 1}), tensor),
        "shape too small": (_entry("shape", [7]), tensor),
        "shape overflows": (_entry("shape", [2**40, 2**40]), tensor),
        "shape of 100,000 axes": (_entry("shape", [2**40] * 100_000), tensor),
        "shape negative": (_entry("shape", [-64]), tensor),
        "shape of booleans": (_entry("shape", [True, 64]), tensor),
        "shape null": (_entry("shape", None), tensor),
        "shape NaN": (_entry("shape", [float("nan")]), tensor),
        "dtype unknown": (_entry("dtype", "F33"), tensor),
        "dtype narrower": (_entry("dtype", "F16"), tensor),
        "dtype a number": (_entry("dtype", 5), tensor),
        "dtype other": (_entry("dtype", "I32"), None),
        "no dtype": (_header(lambda header: header[SECOND].pop("dtype") and None), tensor),
        "hole": (_header(lambda header: header.pop(SECOND) and None), "belong to no tensor"),
        "last one gone": (_header(last), "header promises"),
        "tensor twice": (_header(twice), tensor),
        "renamed": (_header(lambda header: header.update({"a\0b": header.pop(SECOND)})), tensor),
        "surrogate": (_header(lambda header: json.dumps(header).replace(SECOND, r"\ud800")), file),
        "metadata of numbers": (_header(lambda header: header.update(__metadata__={"format": 5})), file),
        "nested lists": (_header(lambda _: "[" * 100_000 + "]" * 100_000), file),
        "nested objects": (_header(lambda _: '{"a":' * 100_000 + "1" + "}" * 100_000), file),
        "a list": (_header(lambda _: "[]"), file),
        "no tensors": (lambda model: _write_header(model / SINGLE, "{}", b""), file),
        "150 MB of spaces": (lambda model: _write_header(model / SINGLE, " " * 150_000_000, b""), file),
        "a million tensors": (_header(lambda _: _many(1_000_000)), ""),
        "not UTF-8": (lambda model: _write_header(model / SINGLE, b"\xff" * 100, b""), file),
        "length short": (_header(lambda _: None, lambda length: length - 50), file),
        "length long": (_header(lambda _: None, lambda length: length + 50), file),
        "length 2^63": (_header(lambda _: None, lambda _: 2**63), file),
        "length 2^64-1": (_header(lambda _: None, lambda _: 2**64 - 1), file),
        "truncated": (lambda model: os.truncate(model / SINGLE, 100_000), file),
        "two bytes": (lambda model: os.truncate(model / SINGLE, 2), file),
        "empty": (lambda model: os.truncate(model / SINGLE, 0), file),
        "longer": (lambda model: os.truncate(model / SINGLE, 3 * BILLION), file),
        "NaN": (_nan_weights, None),
    }


def _many(count: int) -> str:
    entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return "{" + ",".join(f'"t{number}":{entry}' for number in range(count)) + "}"


def _nan_weights(model: Path) -> None:
    header, data = _read_header(model / SINGLE)
    begin, end = header["classifier.weight"]["data_offsets"]
    _write_header(model / SINGLE, json.dumps(header), data[:begin] + b"\xff" * (end - begin) + data[end:])


# What is done to config.json

SIZES: Mapping[str, tuple[Any, ...]] = {
    "num_hidden_layers": (BILLION, -1, 0, 1, 3, 2.0, 1e9, True, "2", None, [2], 10**4000),
    "num_attention_heads": (0, 3, -2, "2", BILLION, 2.0),
    "hidden_size": (0, -64, 128, 65, TRILLION, "64", 64.0, True),
    "vocab_size": (TRILLION, 29, 31, -1, 0, 10**4000, "x", None),
    "intermediate_size": (TRILLION, 127, -1),
    "max_position_embeddings": (10**15, 511, -1, 0),
    "type_vocab_size": (BILLION, 0, "x", [1]),
    "num_labels": (BILLION, 3, -1, 0, True),
    "id2label": ({"a": "b"}, [1], {"0": 5}, "x", dict.fromkeys(map(str, range(5)), "x")),
    "hidden_act": ("nope", 5),
    "model_type": ("nope", 5, None, ["x"], "../x", "\x1b[31mred"),
    "architectures": (5, "x", [5], ["Nope"]),
    "hidden_dropout_prob": (5, "x"),
    "_attn_implementation": ("evil/kernel",),
    "text_config": ({"num_hidden_layers": BILLION},),
    "_name_or_path": ("\ud800",),
    "auto_map": (5,),
}
"""What must be refused; the sentence names the file."""

HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "pad_token_id": (-1, BILLION, "x"),
    "return_dict": (False,),
    "dtype": ("float99", 5, "float16"),
    "quantization_config": ({"quant_method": "nope"}, 5),
    "auto_map": ({"AutoConfig": "x.y"},),
    "chunk_size_feed_forward": (7, BILLION),
    "is_decoder": (True,),
    "pruned_heads": ({"a": 5},),
    "layer_norm_eps": (1e300,),
    "a\0b\x1b[31m": (1,),
}
"""What may work: transformers ignores it, or it is a different model's that fits."""

TEXTS: Mapping[str, bytes] = {
    "empty": b"",
    "half an object": b'{"model_type": "be',
    "a list": b"[]",
    "null": b"null",
    "nested 100,000 deep": b'{"a":' * 100_000,
    "NaN": b'{"model_type": "bert", "x": NaN}',
    "1e999": b'{"model_type": "bert", "x": 1e999}',
    "5,000 digits": b'{"model_type": "bert", "x": ' + b"9" * 5000 + b"}",
    "UTF-16": '{"model_type": "bert"}'.encode("utf-16"),
    "not UTF-8": b"\xff\xfe\x00",
    "30 MB": b'{"a": [' + b"[]," * 10_000_000 + b"[]]}",
}


def _set(key: str, value: Any) -> Damage:
    def damage(model: Path) -> None:
        file = model / "config.json"
        config = json.loads(file.read_text())
        if key == "num_labels":
            config.pop("id2label", None)
        file.write_text(json.dumps({**config, key: value}))

    return damage


def _configs() -> Kinds:
    kinds: Kinds = {}
    for table, said in ((SIZES, r"config\.json|was saved as"), (HARMLESS, None)):
        for key, values in table.items():
            kinds |= {f"{key!r} {ascii(value)[:30]}": (_set(key, value), said) for value in values}
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        kinds |= {f"{name}: {kind}": (_content(name, text), re.escape(name)) for kind, text in TEXTS.items()}
    return kinds


def _content(name: str, content: bytes) -> Damage:
    return lambda model: (model / name).write_bytes(content)


# What is put in a file's place, whatever it is

PLACES: Mapping[str, Callable[[Path], object]] = {
    "named pipe": os.mkfifo,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "link out": lambda file: file.symlink_to(file.parent.parent / "outside.txt"),
    "relative link out": lambda file: file.symlink_to("../outside.txt"),
    "link to /etc/passwd": lambda file: file.symlink_to("/etc/passwd"),
    "link to itself": lambda file: file.symlink_to(file),
    "link to nothing": lambda file: file.symlink_to("nowhere"),
    "folder": os.mkdir,
    "1 GB": lambda file: _sparse(file, BILLION),
}


def _sparse(file: Path, size: int) -> None:
    with open(file, "wb") as stream:
        stream.truncate(size)


def _in_place_of(name: str, make: Callable[[Path], object]) -> Damage:
    def damage(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        make(model / name)

    return damage


def _files() -> Kinds:
    names = (SINGLE, "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "merges.txt")
    kinds: Kinds = {
        f"{name} is a {kind}": (_in_place_of(name, make), re.escape(name))
        for name in names
        for kind, make in PLACES.items()
    }
    kinds["no config.json"] = (lambda model: (model / "config.json").unlink(), r"config\.json")
    kinds["no weights"] = (lambda model: (model / SINGLE).unlink(), re.escape(SINGLE))
    kinds["pickles"] = (lambda model: (model / SINGLE).rename(model / "pytorch_model.bin"), "torch.save")
    return kinds


# What an index may say

SHARD = "model-00001-of-00001.safetensors"


def _index(change: Callable[[dict[str, str]], Any]) -> Damage:
    """Sharded, with an index whose map of weights is changed or replaced."""

    def damage(model: Path) -> None:
        header, _ = _read_header(model / SINGLE)
        (model / SINGLE).rename(model / SHARD)
        places = dict.fromkeys(header.keys() - {"__metadata__"}, SHARD)
        changed = change(places)
        (model / INDEX).write_text(json.dumps({"weight_map": places if changed is None else changed}))

    return damage


def _naming(name: Any) -> Damage:
    return _index(lambda places: places.update({SECOND: name}))


def _indexes() -> Kinds:
    index = re.escape(INDEX)

    def linked(model: Path) -> None:
        _naming("l.safetensors")(model)
        (model / "l.safetensors").symlink_to("../outside.txt")

    return {
        "index whole": (_index(lambda _: None), None),
        "index names a missing file": (_naming("nope.safetensors"), r"nope\.safetensors"),
        "index names a file above": (_naming("../outside.txt"), index),
        "index names /etc/passwd": (_naming("/etc/passwd"), index),
        "index names a folder": (_naming(".."), index),
        "index names nothing": (_naming(""), index),
        "index names a NUL": (_naming("a\0b"), index),
        "index names 5,000 letters": (_naming("a" * 5000), index),
        "index names a surrogate": (_naming("\ud800"), index),
        "index names a link out": (linked, r"l\.safetensors"),
        "index names config.json": (_naming("config.json"), r"config\.json"),
        "index names a number": (_naming(5), index),
        "index names an unknown tensor": (_index(lambda places: places.update(nope=SHARD)), "nope"),
        "index is empty": (_index(lambda _: {}), index),
        "index is a list": (_index(lambda _: []), index),
        **{f"index: {kind}": (partial(_index_text, text), index) for kind, text in TEXTS.items()},
    }


def _index_text(text: bytes, model: Path) -> None:
    (model / SINGLE).rename(model / SHARD)
    (model / INDEX).write_bytes(text)


# What is done to an ONNX graph


def _graph(change: Callable[[Any], object]) -> Damage:
    def damage(model: Path) -> None:
        import onnx

        proto = onnx.load(str(model / ONNX))
        change(proto)
        (model / ONNX).write_bytes(proto.SerializeToString())

    return damage


def _external(prepare: Callable[[Path], object] | None = None, **entries: Any) -> Damage:
    """One tensor beside the model, with these entries about where."""

    def damage(model: Path) -> None:
        def change(proto: Any) -> None:
            tensor = proto.graph.initializer[0]
            (model / "weights.bin").write_bytes(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = tensor.EXTERNAL
            for key, value in {"location": "weights.bin", **entries}.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)

        _graph(change)(model)
        if prepare is not None:
            prepare(model)

    return damage


def _shape(*sizes: int) -> Damage:
    def change(proto: Any) -> None:
        tensor = proto.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend(sizes)

    return _graph(change)


def _axes(*sizes: int) -> Damage:
    def change(proto: Any) -> None:
        shape = proto.graph.input[0].type.tensor_type.shape
        del shape.dim[:]
        for size in sizes:
            shape.dim.add().dim_value = size

    return _graph(change)


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph, and so on: fields 1, 5, 6 of the messages."""
    inner = b""
    for _ in range(depth):
        attribute = b"\x0a\x01a\x32" + _varint(len(inner)) + inner
        node = b"\x2a" + _varint(len(attribute)) + attribute + b"\x22\x02If"
        inner = b"\x0a" + _varint(len(node)) + node
    return b"\x08\x09\x3a" + _varint(len(inner)) + inner


def _calls_itself(proto: Any) -> None:
    from onnx import helper

    own = helper.make_opsetid("own", 1)
    call = helper.make_node("F", ["x"], ["y"], domain="own")
    proto.functions.append(helper.make_function("own", "F", ["x"], ["y"], [call], [own]))
    proto.opset_import.append(own)
    proto.graph.node.append(helper.make_node("F", ["mean"], ["z"], domain="own"))


def _graphs() -> Kinds:
    from onnx import helper

    file, tensor = r"model\.onnx", "words"

    def link(target: str, name: str = "l") -> Callable[[Path], None]:
        return lambda model: (model / name).symlink_to(target)

    elsewhere = {
        "above": _external(location="../outside.txt"),
        "/etc/passwd": _external(location="/etc/passwd"),
        "../../etc/passwd": _external(location="../../etc/passwd"),
        "through a link": _external(link("../outside.txt"), location="l"),
        "through a link of a folder": _external(link(".."), location="l/outside.txt"),
        "a device": _external(link("/dev/zero"), location="l"),
        "a named pipe": _external(lambda model: os.mkfifo(model / "l"), location="l"),
        "a folder": _external(lambda model: (model / "l").mkdir(), location="l"),
        "a link to itself": _external(link("l"), location="l"),
        "missing": _external(location="nope"),
        "nowhere": _external(location=""),
        "a NUL": _external(location="a\0b"),
        "5,000 letters": _external(location="a" * 5000),
        "itself": _external(location=ONNX),
        "before its file": _external(offset=-8),
        "beyond its file": _external(offset=10**15),
        "beyond integers": _external(offset=2**63 - 1, length=2**63 - 1),
        "beyond all": _external(offset=10**30),
        "a word": _external(offset="abc"),
        "5,000 digits": _external(offset="9" * 5000),
        "of negative length": _external(length=-1),
        "longer than its file": _external(length=10**15),
        "too short": _external(length=4),
    }
    changes: Mapping[str, Callable[[Any], object]] = {
        "cycle": lambda proto: proto.graph.node[0].input.__setitem__(0, "mean"),
        "opset 999": lambda proto: setattr(proto.opset_import[0], "version", 999),
        "opset -1": lambda proto: setattr(proto.opset_import[0], "version", -1),
        "no opset": lambda proto: proto.ClearField("opset_import"),
        "unknown domain": lambda proto: setattr(proto.graph.node[0], "domain", "evil.example"),
        "unknown operator": lambda proto: setattr(proto.graph.node[0], "op_type", "Nope"),
        "IR of the future": lambda proto: setattr(proto, "ir_version", BILLION),
        "dtype 99": lambda proto: setattr(proto.graph.initializer[0], "data_type", 99),
        "dtype 0": lambda proto: setattr(proto.graph.initializer[0], "data_type", 0),
        "input's dtype 99": lambda proto: setattr(proto.graph.input[0].type.tensor_type, "elem_type", 99),
        "input without a type": lambda proto: proto.graph.input[0].ClearField("type"),
        "output without a type": lambda proto: proto.graph.output[0].ClearField("type"),
        "no outputs": lambda proto: proto.graph.ClearField("output"),
        "no inputs": lambda proto: proto.graph.ClearField("input"),
        "no weights": lambda proto: proto.graph.ClearField("initializer"),
        "no nodes": lambda proto: proto.graph.ClearField("node"),
        "no graph": lambda proto: proto.ClearField("graph"),
        "a name twice": lambda proto: proto.graph.node.append(proto.graph.node[0]),
        "no data": lambda proto: setattr(proto.graph.initializer[0], "raw_data", b""),
        "more data": lambda proto: setattr(proto.graph.initializer[0], "raw_data", bytes(10_000)),
        "a float list of one": lambda proto: (
            proto.graph.initializer[0].ClearField("raw_data"), proto.graph.initializer[0].float_data.append(1),
        ),
        "calls itself": _calls_itself,
        "unknown attribute": lambda proto: proto.graph.node[1].attribute.append(helper.make_attribute("nope", [1])),
    }  # fmt: skip
    raw = {
        "truncated": lambda model: os.truncate(model / ONNX, 2_000),
        "twenty bytes": lambda model: os.truncate(model / ONNX, 20),
        "empty": _content(ONNX, b""),
        "random": _content(ONNX, random.Random(0).randbytes(5_000)),
        "zeros": _content(ONNX, bytes(5_000)),
        "text": _content(ONNX, b"version https://git-lfs.github.com/spec/v1\n"),
        "nested": _content(ONNX, _nested(20)),
        "nested deep": _content(ONNX, _nested(3_000)),
        "3 GB": lambda model: _sparse(model / ONNX, 3 * BILLION),
        **{f"a {kind}": _in_place_of(ONNX, make) for kind, make in PLACES.items() if kind != "1 GB"},
    }
    shapes = {
        "negative shape": _shape(-30, 64),
        "shape that overflows": _shape(2**40, 2**40),
        "shape of 400 GB": _shape(10**11),
        "shape of 100,000 axes": _shape(*[1] * 100_000),
        "shape of one row more": _shape(31, 64),
    }
    return {
        **{f"weights {kind}": (damage, f"{tensor}|{file}|: its weights|/l") for kind, damage in elsewhere.items()},
        **{kind: (_graph(change), "") for kind, change in changes.items()},
        **{kind: (damage, file) for kind, damage in raw.items()},
        **{kind: (damage, tensor) for kind, damage in shapes.items()},
        "input of 100,000 axes": (_axes(*[1] * 100_000), "input_ids"),
        "input of a huge axis": (_axes(2**62, 4), "input_ids"),
        "input of negative axes": (_axes(-1, -5), None),
        "weights beside it": (_external(), None),
        "weights in 40,000 subgraphs": (_graph(_subgraphs), None),
    }


def _subgraphs(proto: Any) -> None:
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["mean"], ["z"])], "body", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    proto.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    proto.graph.node.extend(
        helper.make_node("If", ["yes"], [f"z{number}"], then_branch=body, else_branch=body) for number in range(2_000)
    )


# By a whole run

WHOLE: Kinds = {
    "whole": (lambda _: None, None),
    "overlap": (_entry("data_offsets", lambda header: header[FIRST]["data_offsets"]), re.escape(SECOND)),
    "a billion layers": (_set("num_hidden_layers", BILLION), "num_hidden_layers"),
    "vocabulary of another size": (_set("vocab_size", 31), "word_embeddings"),
    "vocab.txt leads out": (_in_place_of("vocab.txt", lambda file: file.symlink_to("../outside.txt")), r"vocab\.txt"),
    "NaN": (_nan_weights, "NaN"),
    "escapes": (_set("model_type", "\x1b[31mred"), r"config\.json"),
    "tokenizer.json is a list": (_content("tokenizer.json", b"[]"), "tokenizer"),
    "tokenizer.json is nested": (_content("tokenizer.json", b'{"a":' * 100_000), "tokenizer"),
    "config.json is nested": (_content("config.json", b'{"a":' * 100_000), r"config\.json"),
}


def _run_attempt(damage: Damage, said: str | None) -> Callable[[Path], str | None]:
    def attempt(folder: Path) -> str | None:
        shutil.copytree(_bert(), folder / "model")
        (folder / "outside.txt").write_text(SECRET)
        damage(folder / "model")
        (folder / "rows.csv").write_text("text,label\n" + "word1 word2,0\nword3,1\n" * 4)
        (folder / "run.json").write_text(json.dumps(_run_config()))
        ended = hfopt(folder, "run", "run.json", seconds=SECONDS * 2)
        shown = ended.stdout + ended.stderr
        if (wrong := broken(ended, codes=REFUSED if said is not None else (0,))) is not None:
            return wrong
        best = folder / "out" / "best"
        if any(SECRET in file.read_text(errors="replace") for file in best.rglob("*") if file.is_file()):
            return "took what lies outside into best/"
        return None if said is None or re.search(said, shown) else f"does not name {said}: {shown[-500:]}"

    return attempt


def _run_config() -> dict[str, Any]:
    data = {
        "name": "rows",
        "type": "HuggingfaceContainer",
        "load_dataset_config": {"data_name": "csv", "data_files": "rows.csv", "split": "train"},
        "pre_process_data_config": {"input_cols": ["text"], "label_cols": ["label"]},
    }
    metric = {
        "name": "accuracy",
        "type": "accuracy",
        "sub_types": [{"name": "accuracy_score"}],
        "data_config": "rows",
    }
    return {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": "model", "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [data],
        "evaluators": {"common": {"metrics": [metric]}},
        "passes": {"conversion": {"type": "OnnxConversion"}},
        "engine": {"evaluator": "common", "cache_dir": "cache", "output_dir": "out"},
    }


# At random


def _at_random(kind: str, seed: int) -> Damage:
    def damage(model: Path) -> None:
        numbers = random.Random(seed)
        if kind == "header":
            header, data = _read_header(model / SINGLE)
            _write_header(model / SINGLE, _flipped(json.dumps(header).encode(), numbers), data)
        elif kind == "graph":
            content = (model / ONNX).read_bytes()
            (model / ONNX).write_bytes(_flipped(content, numbers, skip=0.9))
        else:
            name = "config.json" if kind == "config" else "tokenizer_config.json"
            (model / name).write_bytes(_flipped((model / name).read_bytes(), numbers))

    return damage


def _flipped(content: bytes, numbers: random.Random, skip: float = 0.0) -> bytes:
    """Some bytes changed, cut out or doubled. `skip`: how often at the ends, where an ONNX file has its structure."""
    changed = bytearray(content)
    for _ in range(numbers.choice((1, 1, 2, 5, 20))):
        at = numbers.randrange(len(changed))
        if numbers.random() < skip:
            at = numbers.choice((numbers.randrange(300), len(changed) - 1 - numbers.randrange(200))) % len(changed)
        how = numbers.randrange(4)
        if how == 0:
            changed[at] ^= 1 << numbers.randrange(8)
        elif how == 1:
            changed[at] = numbers.choice(b'0123456789-"{}[],:\x00\xff')
        elif how == 2:
            del changed[at : at + numbers.randrange(1, 8)]
        else:
            changed[at:at] = changed[at : at + numbers.randrange(1, 8)]
    return bytes(changed)
