"""The hub on loopback answers the real clients as the hub would."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hfopt_hf_hub.testing.hub import TOKEN, Hub

CONFIG = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MODEL = {
    "config.json": json.dumps(CONFIG).encode(),
    "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm\n",
    "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer"}',
    "model.safetensors": bytes(range(256)) * 8,
    "onnx/model.onnx": b"onnx",
}


@pytest.fixture
def client(hub):
    """Runs Python text as a client; the last line that it prints is JSON."""

    def run(text, **environment):
        command = [sys.executable, "-W", "ignore", "-c", f"import json, huggingface_hub as h\n{text}"]
        environment = {**os.environ, **hub.environment, **environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().rpartition("\n")[2])

    return run


FAILURE = """
def failure(call, **options):
    try:
        return str(call(**options))
    except Exception as error:
        return type(error).__name__
"""


def test_a_snapshot_has_the_files_and_only_asks_for_what_it_lacks(hub, client):
    commit = hub.add_model("acme/tiny", MODEL)
    text = """
from pathlib import Path
folders = [Path(h.snapshot_download("acme/tiny", token="hf_loopback")) for _ in range(2)]
print(json.dumps([folders[0].name, {p.relative_to(folders[0]).as_posix(): p.read_bytes().hex()
                                    for p in folders[0].rglob("*") if p.is_file()}]))
"""
    assert client(text) == [commit, {path: content.hex() for path, content in MODEL.items()}]
    revisions = [r for r in hub.requests if r.path == "/api/models/acme/tiny/revision/main"]
    files = [r for r in hub.requests if r.host == hub.files_url]
    assert hub.requests[-1] == revisions[-1]
    assert len(revisions) == 2
    assert len(files) >= 2
    assert not any(request.authorized for request in files)
    assert all(request.authorized for request in hub.requests if request.host == hub.url)
    assert TOKEN not in repr(hub.requests)


def test_refusals_are_those_that_the_client_knows(hub, client):
    hub.add_model("acme/tiny", MODEL)
    hub.add_model("acme/gated", MODEL, readers={TOKEN})
    hub.tokens.add("hf_stranger")
    text = (
        FAILURE
        + """
get = h.hf_hub_download
one = {"repo_id": "acme/tiny", "filename": "config.json"}
gated = {"repo_id": "acme/gated", "filename": "config.json"}
print(json.dumps([
    failure(get, **{**one, "repo_id": "acme/none"}),
    failure(get, **{**one, "repo_id": "acme/none", "token": "hf_loopback"}),
    failure(get, **one, revision="v9"),
    failure(get, **{**one, "filename": "none.json"}),
    failure(get, **one, token="hf_wrong"),
    failure(get, **gated),
    failure(get, **gated, token="hf_stranger"),
    failure(get, **gated, token="hf_loopback").endswith("config.json"),
]))
"""
    )
    missing = ["RepositoryNotFoundError"] * 2 + ["RevisionNotFoundError", "RemoteEntryNotFoundError"]
    assert client(text) == [*missing, "HfHubHTTPError", "GatedRepoError", "GatedRepoError", True]


def test_a_busy_hub_and_a_cut_connection_are_overcome_and_what_came_is_not_asked_for_again(hub, client):
    hub.add_model("acme/tiny", MODEL)
    hub.busy(1, part="/files/")
    hub.cut(1, after=1050, part="model.safetensors")
    text = """
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1000
print(json.dumps([len(open(h.hf_hub_download("acme/tiny", name), "rb").read()) for name in FILES]))
"""
    assert client(text.replace("FILES", '["model.safetensors", "config.json"]')) == [2048, len(MODEL["config.json"])]
    assert [r.range for r in hub.requests if r.method == "GET" and r.host == hub.files_url] == [
        None,
        None,
        "bytes=1000-",
    ]


def test_facts_about_paths_are_those_that_the_listing_has(hub, client):
    commit = hub.add_model("acme/tiny", MODEL)
    text = """
api = h.HfApi()
wanted = ["model.safetensors", "onnx", "config.json", "none.json"]
infos = {info.path: info for info in api.get_paths_info("acme/tiny", wanted)}
listed = {info.path: info for info in api.list_repo_tree("acme/tiny", recursive=True)}
one, = api.get_paths_info("acme/tiny", "config.json", revision="COMMIT", expand=True)
print(json.dumps([sorted(infos), all(info == listed[path] for path, info in infos.items()),
                  infos["model.safetensors"].lfs.size, type(infos["onnx"]).__name__, one.size]))
"""
    named = ["config.json", "model.safetensors", "onnx"]
    assert client(text.replace("COMMIT", commit)) == [named, True, 2048, "RepoFolder", len(MODEL["config.json"])]


def test_transformers_and_datasets_load_from_it(hub, client):
    hub.add_model("acme/tiny", MODEL)
    hub.rename("model", "tiny", "acme/tiny")
    hub.add_dataset("acme/glue", {"README.md": CARD, "mrpc/train.csv": b"text\na\n", "mrpc/test.csv": b"text\nb\n"})
    text = """
import datasets, transformers
config = transformers.AutoConfig.from_pretrained("tiny")
tokenizer = transformers.AutoTokenizer.from_pretrained("acme/tiny")
rows = datasets.load_dataset("acme/glue", "mrpc", split="test")
print(json.dumps([config.hidden_size, tokenizer("film")["input_ids"], rows[0]]))
"""
    assert client(text) == [16, [2, 5, 3], {"text": "b"}]


CARD = b"""---
configs:
- config_name: mrpc
  data_files:
  - {split: train, path: mrpc/train.csv}
  - {split: test, path: mrpc/test.csv}
---
"""


def test_commits_depend_on_content_alone(tmp_path):
    (tmp_path / "model" / "onnx").mkdir(parents=True)
    for path, content in MODEL.items():
        (tmp_path / "model" / path).write_bytes(content)
    with Hub(tmp_path / "a") as one, Hub(tmp_path / "b") as other:
        commit = one.add_model("acme/tiny", MODEL)
        assert other.add_model("acme/other", tmp_path / "model", branch="v1") == commit
        assert one.add_model("acme/tiny", {**MODEL, "config.json": b"{}"}) != commit
