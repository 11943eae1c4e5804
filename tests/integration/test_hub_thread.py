"""A model and its data by name, from a hub that is served on loopback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from hfopt_hf_hub.testing.hub import TOKEN

CARD = b"""---
configs:
- config_name: films
  data_files: [{split: validation, path: films.csv}]
- config_name: books
  data_files: [{split: validation, path: books.csv}]
---
"""


@pytest.fixture
def by_name(thread, hub, tiny_model):
    """A project whose model and data are on a hub, with one pass."""
    hub.add_model("acme/tiny", tiny_model)
    rows = (thread.folder / "rows.csv").read_bytes()
    (thread.folder / "rows.csv").unlink()
    hub.add_dataset("acme/reviews", {"README.md": CARD, "films.csv": rows, "books.csv": rows})
    classifier = {"model_name": "acme/tiny", "task": "text-classification"}
    thread.config["input_model"]["config"] = {"hf_config": classifier}
    params = {"data_name": "acme/reviews", "subset": "films", "input_cols": ["text"], "label_cols": ["label"]}
    thread.config["data_configs"][0]["params_config"] = params
    thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
    del thread.config["evaluators"]["e"]["metrics"][1]
    thread.environment = dict(hub.environment)
    return thread


def accuracy(thread):
    return thread.record()["results"][0]["input_model"]["metrics"]["accuracy-accuracy"]["value"]


def test_a_run_takes_model_and_data_from_the_hub_and_later_offline_from_the_cache(by_name, hub):
    first = by_name.run()
    assert first.returncode == 0, first.stderr
    found = accuracy(by_name)
    assert "acme/tiny: revision main is " in first.stderr
    assert "acme/reviews: revision main is " in first.stderr
    weights = [request for request in hub.requests if request.path.endswith("model.safetensors")]
    assert [request.method for request in weights] == ["HEAD"]
    assert not any(request.path.endswith("books.csv") for request in hub.requests)

    asked = len(hub.requests)
    offline = by_name.run("--offline")

    assert offline.returncode == 0, offline.stderr
    assert len(hub.requests) == asked
    assert all(step["cached"] for step in by_name.steps().values())
    assert accuracy(by_name) == found


def test_a_model_that_the_hub_has_not_is_one_sentence(by_name, hub):
    by_name.config["input_model"]["config"]["hf_config"]["model_name"] = "acme/none"

    done = by_name.run()

    assert done.returncode != 0
    assert "the hub has no model 'acme/none' that is open to you" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def gated(by_name, hub, tiny_model):
    """The same project, whose model and data only an account with access may have."""
    hub.add_model("acme/gated", tiny_model, readers={TOKEN})
    hub.add_dataset("acme/private", {"reviews.csv": (b"text,label\n" + b"good film,1\n" * 8)}, readers={TOKEN})
    by_name.config["input_model"]["config"]["hf_config"]["model_name"] = "acme/gated"
    return by_name


def say(thread, hf_token):
    """Have the config say whether a token is needed."""
    thread.config["systems"] = {"here": {"type": "LocalSystem", "config": {"hf_token": hf_token}}}
    thread.config["engine"] |= {"host": "here", "target": "here"}


VAULT = """
import os
from pathlib import Path
from hfopt import Component, TokenProvider, hookimpl

class Vault(TokenProvider):
    def token(self, hub):
        with open("asked", "a") as asked:
            print(hub, file=asked)
        return Path(FILE).read_text()

@hookimpl
def hfopt_token_providers():
    return [Component("vault", f"{__name__}:Vault", "A file beside the project")]
"""


def vault(thread, file, token):
    """Arguments that bring a plugin which knows a token."""
    file.write_text(token)
    (thread.folder / "vault.py").write_text(VAULT.replace("FILE", repr(str(file))))
    return ("-p", "vault.py")


def run_watched(thread, *arguments):
    """Run it: exit code, what is shown, and the arguments and environments of all processes that it starts."""
    thread.write()
    environment = os.environ | thread.environment
    command = thread.command("run", "config.json", *arguments)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    seen: set[str] = set()
    with subprocess.Popen(command, cwd=thread.folder, env=environment, **pipes) as running:
        reader = ThreadPoolExecutor().submit(running.stdout.read)
        while running.poll() is None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(running.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        arguments, variables = child.cmdline(), child.environ()
                        if arguments != command:  # else it is this command's copy, which is not another program yet
                            seen |= {*arguments, *variables.values()}
            time.sleep(0.02)
    return running.returncode, reader.result(), seen


def test_a_gated_model_is_refused_without_a_token_with_the_page_to_open(gated, hub):
    refused = gated.run()

    assert refused.returncode == 1
    assert (
        "acme/gated is gated: it needs an account that has accepted its licence\n"
        f"  hint: accept the licence at {hub.url}/acme/gated, then set HF_TOKEN or run `hf auth login`\n"
    ) in refused.stderr


@pytest.fixture
def homes(gated, tmp_path):
    """Folders below `tmp_path` for whatever is written outside of the project."""
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        (tmp_path / name).mkdir()
        gated.environment[name] = str(tmp_path / name)


@pytest.mark.timeout(300)  # it runs everything, watched
@pytest.mark.parametrize("kept", ["environment", "login", "provider"])
@pytest.mark.usefixtures("homes")
def test_a_token_opens_a_gated_model_and_dataset_and_is_written_nowhere(gated, hub, tmp_path, kept):
    login, arguments = Path(hub.environment["HF_HOME"]) / "token", ()
    login.parent.mkdir(exist_ok=True)
    if kept == "login":
        login.write_text(TOKEN)
    elif kept == "environment":
        gated.environment["HF_TOKEN"] = TOKEN
    else:
        arguments = vault(gated, login.with_name("vault"), TOKEN)
    gated.config["data_configs"][0]["params_config"] = {"data_name": "acme/private", "label_cols": "label"}
    say(gated, True)

    code, shown, seen = run_watched(gated, *arguments)

    assert code == 0, shown
    assert "acme/private: revision main is " in shown
    forms = [TOKEN.encode(), b64encode(TOKEN.encode())]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    written = [file for file in files if any(form in file.read_bytes() for form in forms)]
    assert written == {"login": [login], "provider": [login.with_name("vault")]}.get(kept, [])
    assert {".sqlite", ".json", ".log", ".onnx", ".safetensors"} <= {file.suffix for file in files}
    assert TOKEN not in shown
    assert len(seen) > 10
    assert [each for each in seen if TOKEN in each] == []


def test_a_token_that_is_needed_and_missing_is_said_before_the_hub_is_asked(by_name, hub):
    say(by_name, True)

    done = by_name.run()

    assert done.returncode == 1
    assert (
        f"hf_token is true, and there is no token for {hub.url}\n"
        "  hint: run `hf auth login`, or set HF_TOKEN, or leave hf_token out if nothing is gated\n"
    ) in done.stderr
    assert hub.requests == []


def test_no_token_is_sent_where_the_config_says_so_and_no_provider_is_asked(by_name, hub, tmp_path):
    arguments = vault(by_name, tmp_path / "secret", TOKEN)
    by_name.environment["HF_TOKEN"] = TOKEN
    say(by_name, False)

    done = by_name.run(*arguments)

    assert done.returncode == 0, done.stderr
    assert not any(request.authorized for request in hub.requests)
    assert not (by_name.folder / "asked").exists()


def test_a_provider_is_asked_once_and_only_if_the_user_has_no_token_and_something_is_to_be_fetched(
    by_name, hub, tmp_path
):
    arguments = vault(by_name, tmp_path / "secret", TOKEN)
    asked = by_name.folder / "asked"
    by_name.environment["HF_TOKEN"] = TOKEN
    assert by_name.run(*arguments).returncode == 0
    assert not asked.exists()

    by_name.environment["HF_TOKEN"] = ""
    offline = by_name.run(*arguments, "--offline")
    assert offline.returncode == 0, offline.stderr
    assert not asked.exists()

    online = by_name.run(*arguments)
    assert online.returncode == 0, online.stderr
    assert asked.read_text() == f"{hub.url}\n"


def test_a_provider_that_fails_is_told_without_what_it_knows(by_name, tmp_path):
    arguments = vault(by_name, tmp_path / "secret", TOKEN)
    failing = VAULT.replace("return Path(FILE).read_text()", "raise PreconditionFailed('the vault is locked')")
    plugin = failing.replace("import Component,", "import Component, PreconditionFailed,")
    (by_name.folder / "vault.py").write_text(plugin)

    done = by_name.run(*arguments)

    assert done.returncode == 1
    assert "the vault is locked" in done.stderr
    assert "Traceback" not in done.stderr


def test_gated_data_without_access_say_which_page_to_open(gated, hub, tiny_model):
    hub.tokens.add("hf_stranger")
    gated.config["input_model"]["config"]["hf_config"]["model_name"] = "acme/tiny"
    gated.config["data_configs"][0]["params_config"] = {"data_name": "acme/private", "label_cols": "label"}

    nobody = gated.run()
    gated.environment["HF_TOKEN"] = "hf_stranger"
    stranger = gated.run()
    gated.environment["HF_TOKEN"] = "hf_wrong"
    wrong = gated.run()

    page = f"{hub.url}/datasets/acme/private"
    assert "acme/private is gated: it needs an account that has accepted its licence" in nobody.stderr
    assert f"accept the licence at {page}, then set HF_TOKEN or run `hf auth login`" in nobody.stderr
    assert (
        "acme/private is gated, and the account whose token is used has no access to it\n"
        f"  hint: ask for access at {page}; a fine-grained token must allow gated repositories\n"
    ) in stranger.stderr
    assert ("the hub does not accept the token\n  hint: run `hf auth login` again, or unset HF_TOKEN\n") in wrong.stderr
    assert {each.returncode for each in (nobody, stranger, wrong)} == {1}
