"""``hf_model``: what is asked of a hub, what comes from it, and what is said when it does not."""

from __future__ import annotations

import ast
import json
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError
from pydantic import ValidationError

from hfopt_hf_hub import sentences
from hfopt_hf_hub.hub import Repository
from hfopt_hf_hub.model import HfModelConfig, companions
from hfopt_hf_hub.testing.hub import TOKEN

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
INDEX = "model.safetensors.index.json"
PARTS = {f"model-0000{n}-of-00002.safetensors": b"%d" % n for n in (1, 2)}


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


def index_of(*names):
    return {INDEX: json.dumps({"weight_map": {f"layer.{n}": name for n, name in enumerate(names)}}).encode()}


@pytest.mark.parametrize("parts", [PARTS, {"a.safetensors": b"1", "weights/b.safetensors": b"2"}])
def test_the_shards_that_the_index_names_come_with_it_whatever_they_are_called(hub, get, files, parts):
    stray = {"model-00001-of-00003.safetensors": b"of an earlier upload"}
    hub.add_model("acme/tiny", {**SMALL, **UNWANTED, **stray, **parts, **index_of(*parts, *parts)})

    get()

    assert set(files()) == {*SMALL, INDEX, *parts}


def test_an_index_that_names_what_is_not_there_is_said_before_a_shard_is_downloaded(hub, get):
    first, second = PARTS
    commit = hub.add_model("acme/tiny", {**SMALL, first: b"1", **index_of(first, second)})

    failure = get()

    assert failure == {
        "message": f"{INDEX} of acme/tiny at {commit[:12]} names {second}, which the repository lacks",
        "hint": "name a revision that is complete",
    }
    resolved = {path for _, path in asked(hub) if "/resolve/" in path}
    assert resolved == {f"/acme/tiny/resolve/{commit}/{INDEX}"}


def test_offline_shards_that_the_cache_lacks_are_named_with_the_way_out(hub, get):
    hub.add_model("acme/tiny", {**SMALL, **PARTS, **index_of(*PARTS)})
    get()
    second = list(PARTS)[1]
    for kept in (hub.home / "hub").rglob("trees"):  # as another program, or an older client, leaves the cache
        shutil.rmtree(kept)
    next((hub.home / "hub").rglob(second)).unlink()

    failure = get(offline=True, to="offline")

    assert failure["message"].endswith(f"is not whole in the hub cache: {second} missing")
    assert "--offline" in failure["hint"]


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (b"{}", "is not an index of weights"),
        (b'{"weight_map": {}}', "names no weights"),
        (b'{"weight_map": {"a": "pytorch_model.bin"}}', "names pytorch_model.bin, which is no .safetensors file"),
        (b'{"weight_map": {"a": "../a.safetensors"}}', "names ../a.safetensors, which the repository lacks"),
    ],
)
def test_a_damaged_index_is_refused(hub, get, index, reason):
    commit = hub.add_model("acme/tiny", {**SMALL, **UNWANTED, **PARTS, INDEX: index})

    assert get()["message"] == f"{INDEX} of acme/tiny at {commit[:12]} {reason}"


def test_every_vocabulary_that_transformers_names_belongs_to_a_model_and_no_other_text_does():
    source = Path(find_spec("transformers").submodule_search_locations[0])
    named = {
        value.value
        for file in source.glob("models/*/tokenization_*.py")
        for statement in ast.parse(file.read_text("utf-8")).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "VOCAB_FILES_NAMES"
        for value in statement.value.values
        if isinstance(value, ast.Constant)
    }
    assert {"vocab.txt", "source.spm", "bpe.codes", "dict.txt", "prophetnet.tokenizer"} < named

    assert set(companions(sorted(named))) == named
    assert companions(["LICENSE.txt", "requirements.txt", "README.md", "sub/vocab.txt", INDEX]) == []


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

    assert f"at {commit[:12]}" in failure["message"]
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


def test_a_file_whose_connection_is_reset_is_asked_for_again_and_the_others_are_kept(hub, get, files):
    hub.add_model("acme/tiny", MODEL)
    hub.cut(2, after=1050, part="model.safetensors", reset=True)

    get(setup="import hfopt_hf_hub.sentences as s\ns.PAUSES = (0.01, 0.01)")

    assert len([r for r in hub.requests if r.method == "GET" and r.host == hub.files_url]) == 3
    resolved = [path for method, path in asked(hub) if method == "GET" and "/resolve/" in path]
    assert len(resolved) == len(set(resolved)) == len(SMALL)
    assert files()["model.safetensors"].read_bytes() == WEIGHTS["model.safetensors"]


def test_connections_that_are_reset_again_and_again_are_given_up(hub, get):
    hub.add_model("acme/tiny", MODEL)
    hub.cut(1000, after=1050, part="model.safetensors", reset=True)

    failure = get(setup="import hfopt_hf_hub.sentences as s\ns.PAUSES = (0.01, 0.01)")

    assert failure["message"] == f"the hub at {hub.url} can't be reached for acme/tiny"
    assert len([r for r in hub.requests if r.method == "GET" and r.host == hub.files_url]) == 3


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
    assert cases["none"]["hint"] == (
        "check the name (there is no local folder of that name either); a private one needs HF_TOKEN or `hf auth login`"
    )
    assert "hf auth login" in cases["gated"]["hint"]
    assert f"{hub.url}/acme/gated" in cases["stranger"]["hint"]
    assert get("acme/gated", to="c", token=TOKEN)["report"]["files"] == 5


def test_a_hub_behind_a_password_is_reached_with_it_and_a_wrong_one_is_a_sentence_without_it(hub, get):
    hub.add_model("acme/tiny", MODEL)
    hub.logins.add("user:right-password")
    right, wrong = (hub.url.replace("://", f"://user:{each}-password@") for each in ("right", "wrong"))

    failure, done = get(endpoint=wrong), get(endpoint=right)

    told = {"message": "the hub does not accept the user and password of its address", "hint": "check HF_ENDPOINT"}
    assert failure == told
    assert done["report"]["files"] == 5


def test_the_address_with_its_password_may_come_after_the_client_was_imported_and_has_connected(hub, get):
    hub.add_model("acme/tiny", MODEL)
    hub.logins.add("user:password")
    setup = """
import huggingface_hub
endpoint = os.environ.pop("HF_ENDPOINT")
huggingface_hub.get_session()
os.environ["HF_ENDPOINT"] = endpoint
"""

    assert get(endpoint=hub.url.replace("://", "://user:password@"), setup=setup)["report"]["files"] == 5


@pytest.mark.parametrize("password", ["p4ssw0rd-long", "short"])
def test_no_sentence_repeats_a_password_of_the_address_or_of_a_proxy(get, password):
    dead = f"http://user:{password}@127.0.0.1:9"

    failure = get(endpoint=dead)
    behind = get(
        endpoint="http://hub.example", setup=f"os.environ.update(HTTP_PROXY={dead!r}, NO_PROXY='', no_proxy='')"
    )

    assert failure["message"] == "the hub at http://***@127.0.0.1:9 can't be reached for acme/tiny"
    assert behind["message"] == "the hub at http://hub.example can't be reached for acme/tiny"


def test_a_full_disk_is_a_sentence(hub, get):
    hub.add_model("acme/tiny", MODEL)
    full = "import huggingface_hub.file_download as f\ndef full(*a, **k): raise OSError(errno.ENOSPC, 'No space')\n"

    failure = get(setup=full + "f.http_get = full")

    assert failure["message"].startswith("the disk is full while acme/tiny is downloaded to ")
    assert "HF_HOME" in failure["hint"]


@pytest.mark.parametrize("error", ["EROFS", "EACCES"])
def test_a_cache_that_can_not_be_written_is_used_without_noting_what_a_branch_is(hub, get, error):
    hub.add_model("acme/tiny", MODEL)
    get()
    hub.add_model("acme/tiny", MODEL, branch="v1")
    refuse = f"import hfopt_hf_hub.hub as h\ndef refuse(*_, **__): raise OSError(errno.{error}, 'read-only')\n"

    done = get(revision="v1", to="again", setup=refuse + "h.NamedTemporaryFile = refuse")

    assert done["report"]["files"] == 5
    assert [path.name for path in (hub.home / "hub").rglob("refs/*")] == ["main"]


def test_where_there_are_no_safetensors_the_older_files_are_weights(hub, get, files):
    hub.add_model("acme/tiny", {**SMALL, "pytorch_model.bin": b"one"})
    parts = {f"pytorch_model-0000{n}-of-00002.bin": b"%d" % n for n in (1, 2)}
    index = {"pytorch_model.bin.index.json": json.dumps({"weight_map": {each: each for each in parts}}).encode()}
    hub.add_model("acme/large", {**SMALL, **parts, **index, "training_args.bin": b"pickle"})

    get()
    get("acme/large", to="large")

    assert set(files()) == {*SMALL, "pytorch_model.bin"}
    assert set(files("large")) == {*SMALL, *parts, *index}


def test_code_comes_only_where_it_is_asked_for_and_counts(hub, get, files):
    commit = hub.add_model("acme/tiny", {**MODEL, "layers/attention.py": b""})

    done = get(code=True)

    assert done["resolved"]["identity"] == f"hf:model/acme/tiny@{commit}:code"
    assert set(files()) == {*SMALL, *WEIGHTS, "modeling_tiny.py", "layers/attention.py"}


def test_files_that_are_asked_for_stand_for_the_weights_if_all_are_there(hub, get, files):
    commit = hub.add_model("acme/tiny", MODEL)

    done = get(files=["onnx/*.onnx"])
    get(files=["onnx/*.onnx", "none.onnx"], to="other")
    get(files=["none.onnx"], weights=False, to="neither")

    assert done["resolved"]["identity"] == f"hf:model/acme/tiny@{commit}:onnx/*.onnx"
    assert set(files()) == {*SMALL, "onnx/model.onnx"}
    assert set(files("other")) == {*SMALL, *WEIGHTS}
    assert set(files("neither")) == set(SMALL)


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
    with pytest.raises(ValidationError, match="not a name on a hub"):
        HfModelConfig(name=name)


@pytest.mark.parametrize("revision", ["../main", "/main", "a//b", "a/../b"])
def test_what_is_no_revision_is_refused_in_the_config(revision):
    with pytest.raises(ValidationError, match="not a branch"):
        HfModelConfig(name="acme/tiny", revision=revision)


def test_an_error_without_an_answer_is_nothing_that_the_hub_said():
    class Unanswered(HfHubHTTPError):
        """As clients before 1.0 raise it."""

        def __init__(self):
            self.response = None

    def ask():
        raise Unanswered

    assert sentences.explain(Unanswered(), Repository("model", "acme/tiny"), "main") is None
    with pytest.raises(Unanswered):
        sentences.patiently(ask)
