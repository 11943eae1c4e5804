"""``hf_model``: what is asked of a hub, what comes from it, and what is said when it does not."""

from __future__ import annotations

import shutil
import time

import pytest
from pydantic import ValidationError

from hfopt.testing.hub import TOKEN
from hfopt_hf_hub.model import HfModelConfig

SMALL = {
    "config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "vocab.txt": b"a\n",
    "additional_chat_templates/tool.jinja": b"{{ a }}",
}
UNWANTED = {
    "README.md": b"# Tiny",
    "pytorch_model.bin": b"pickle",
    "pytorch_model.bin.index.json": b"{}",
    "tf_model.h5": b"tf",
    "consolidated.safetensors": b"twice",
    "modeling_tiny.py": b"raise SystemExit",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
}
WEIGHTS = {"model.safetensors": bytes(range(256)) * 10}
MODEL = {**SMALL, **UNWANTED, **WEIGHTS}
SHARDS = {f"model-0000{n}-of-00002.safetensors": b"%d" % n for n in (1, 2)} | {"model.safetensors.index.json": b"{}"}


def asked(hub, start=0):
    return [(request.method, request.path) for request in hub.requests[start:]]


def test_a_branch_is_resolved_by_one_request_and_only_what_a_model_needs_is_fetched(hub, get, files):
    commit = hub.add_model("acme/tiny", MODEL)

    done = get()

    assert done["resolved"] == {
        "identity": f"hf:model/acme/tiny@{commit}",
        "pin": commit,
        "notice": f"acme/tiny: revision main is {commit[:12]}",
    }
    wanted = {**SMALL, **WEIGHTS}
    assert {path: file.read_bytes() for path, file in files().items()} == wanted
    size = sum(map(len, wanted.values()))
    assert done["report"] == {"files": 5, "bytes": size, "copied": 0, "commit": commit}
    assert asked(hub)[:2] == [
        ("GET", "/api/models/acme/tiny/revision/main"),
        ("GET", f"/api/models/acme/tiny/revision/{commit}"),
    ]
    assert len(hub.requests) == 3 + 2 * 5


def test_a_tokenizer_comes_without_weights_and_is_something_else_in_keys(hub, get, files):
    commit = hub.add_model("acme/tiny", MODEL)

    assert get(weights=False)["resolved"]["identity"] == f"hf:model/acme/tiny@{commit}:no-weights"
    assert set(files()) == set(SMALL)


def test_shards_come_with_their_index(hub, get, files):
    hub.add_model("acme/tiny", {**SMALL, **UNWANTED, **SHARDS})

    get()

    assert set(files()) == {*SMALL, *SHARDS}


def test_files_are_hard_links_to_the_cache_and_what_is_cached_is_not_asked_for_again(hub, get, files):
    commit = hub.add_model("acme/tiny", MODEL)
    get()
    before = len(hub.requests)

    again = get(to="again", revision=commit)

    assert len(hub.requests) == before
    assert again["resolved"]["notice"] is None
    assert all(file.samefile(files("again")[path]) for path, file in files().items())
    assert not any(file.is_symlink() for file in files().values())


def test_files_are_copied_where_links_are_impossible_and_the_report_says_so(hub, get, files):
    hub.add_model("acme/tiny", MODEL)
    setup = "def refuse(*_): raise OSError(errno.EXDEV, 'other file system')\nos.link = refuse"

    assert get(setup=setup)["report"]["copied"] == 5
    assert {path: file.read_bytes() for path, file in files().items()} == {**SMALL, **WEIGHTS}


def test_offline_the_cache_is_all_and_nothing_is_asked(hub, get, files):
    commit = hub.add_model("acme/tiny", MODEL)
    get()
    before = len(hub.requests)
    hub.add_model("acme/tiny", {**MODEL, "config.json": b'{"newer": 1}'})

    offline = get(offline=True, to="offline")

    assert offline["resolved"]["pin"] == commit
    assert set(files("offline")) == {*SMALL, *WEIGHTS}
    assert len(hub.requests) == before


def test_offline_an_incomplete_cache_is_named_with_the_way_out(hub, get):
    commit = hub.add_model("acme/tiny", MODEL)
    get(weights=False)
    before = len(hub.requests)

    failure = get(offline=True, to="offline")

    assert f"at {commit}" in failure["message"]
    assert "--offline" in failure["hint"]
    assert get("acme/none", offline=True)["message"] == "the hub cache does not have all of acme/none at main"
    assert len(hub.requests) == before


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, get, files):
    hub.add_model("acme/tiny", MODEL)
    hub.cut(1, after=1050, part="model.safetensors")
    chunks = "import huggingface_hub.constants\nhuggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1000"

    get(setup=chunks)

    ranges = [r.range for r in hub.requests if r.method == "GET" and r.host == hub.files_url]
    assert ranges == [None, "bytes=1000-"]
    assert files()["model.safetensors"].read_bytes() == WEIGHTS["model.safetensors"]


@pytest.mark.parametrize("part", ["/revision/main", "/tree/", "/resolve/", "/files/"])
def test_a_busy_hub_is_waited_for(hub, get, part):
    hub.add_model("acme/tiny", {**SMALL, **WEIGHTS})
    hub.busy(1, part=part)

    assert get(setup="import hfopt_hf_hub.sentences as s\ns.PAUSES = (0.01,)")["report"]["files"] == 5


def test_a_hub_that_stays_busy_is_given_up(hub, get):
    hub.add_model("acme/tiny", MODEL)
    hub.busy(1000)

    failure = get(setup="import hfopt_hf_hub.sentences as s\ns.PAUSES = (0.01, 0.01)")

    assert failure["message"] == "the hub gets too many requests from here"
    assert len(hub.requests) == 3


def test_a_hub_that_is_not_there_is_said_within_seconds(hub, get):
    commit = hub.add_model("acme/tiny", MODEL)
    start = time.monotonic()

    for revision in ("main", commit):
        failure = get(endpoint="http://127.0.0.1:9", revision=revision, to=revision)
        assert failure["message"] == "the hub at http://127.0.0.1:9 can't be reached for acme/tiny"
        assert "--offline" in failure["hint"]

    assert time.monotonic() - start < 6


def test_refusals_are_sentences_that_say_what_to_do(hub, get):
    hub.add_model("acme/tiny", MODEL)
    hub.add_model("acme/gated", MODEL, readers={TOKEN})
    hub.tokens.add("hf_stranger")

    cases = {
        "none": get("acme/none"),
        "revision": get(revision="v9"),
        "token": get(token="hf_wrong"),
        "gated": get("acme/gated", to="a"),
        "stranger": get("acme/gated", to="b", token="hf_stranger"),
    }

    messages = {case: failure["message"] for case, failure in cases.items()}
    assert messages == {
        "none": "the hub has no model 'acme/none' that is open to you",
        "revision": "acme/tiny has no revision 'v9'",
        "token": "the hub does not accept the token",
        "gated": "acme/gated is gated: it needs an account that has accepted its licence",
        "stranger": "acme/gated is gated, and the account whose token is used has no access to it",
    }
    assert "hf auth login" in cases["gated"]["hint"]
    assert f"{hub.url}/acme/gated" in cases["stranger"]["hint"]
    assert get("acme/gated", to="c", token=TOKEN)["report"]["files"] == 5


def test_a_full_disk_is_a_sentence(hub, get):
    hub.add_model("acme/tiny", MODEL)
    full = "import huggingface_hub.file_download as f\ndef full(*a, **k): raise OSError(errno.ENOSPC, 'No space')\n"

    failure = get(setup=full + "f.http_get = full")

    assert failure["message"].startswith("the disk is full while acme/tiny is downloaded to ")
    assert "HF_HOME" in failure["hint"]


def test_pickles_are_refused_before_anything_is_downloaded(hub, get):
    hub.add_model("acme/tiny", {**SMALL, **UNWANTED})

    assert "as pickles" in get()["message"]
    assert not any("/resolve/" in request.path for request in hub.requests)


def test_a_hub_can_not_write_outside_the_folder(hub, get, tmp_path):
    hub.add_model("acme/tiny", {**MODEL, "../escaped.json": b"{}"})

    assert "leads out of its folder" in get()["message"]
    assert not list(tmp_path.rglob("escaped.json"))


def test_a_cache_that_another_program_filled_is_used(hub, get, files):
    hub.add_model("acme/tiny", MODEL)
    setup = """
from transformers.utils import cached_file
for name in ("config.json", "model.safetensors"):
    cached_file("acme/tiny", name)
"""
    get(setup=setup)
    before = len(hub.requests)
    for tree in (hub.home / "hub").rglob("trees"):
        shutil.rmtree(tree)

    assert "report" in get(offline=True, to="offline")
    assert set(files("offline")) == {*SMALL, *WEIGHTS}
    assert len(hub.requests) == before


@pytest.mark.parametrize("name", ["../up", "/abs", "a/b/c", "", "a b", ".hidden/x"])
def test_what_is_no_name_of_a_hub_is_refused_in_the_config(name):
    with pytest.raises(ValidationError, match="not a hub's name"):
        HfModelConfig(name=name)


@pytest.mark.parametrize("revision", ["../main", "/main", "a//b", "a/../b"])
def test_what_is_no_revision_is_refused_in_the_config(revision):
    with pytest.raises(ValidationError, match="not a branch"):
        HfModelConfig(name="acme/tiny", revision=revision)
