"""Credentials reach only those who need them, and are taken out of whatever is printed, logged or recorded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfopt import PreconditionFailed
from hfopt.api.protocol import Fault, Progress
from hfopt.base.processes import credentials, environment, secrets_passed
from hfopt.base.secrets import looks_secret, redacted, withheld, without_credentials

SECRET = "s3cr3t-and-long"


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("for https://user:pass@host/x", "for https://***@host/x"),
        ("https://ghp_token@host:80/", "https://***@host:80/"),
        ("http://user:pa/ss?#@host:80/y", "http://***@host:80/y"),
        ("http://user:p@ss@host", "http://***@host"),
        ("['http://user:p'ss@host']", "['http://***@host']"),
        ("git+ssh://a:b@host/c and http://d:e@f", "git+ssh://***@host/c and http://***@f"),
        ("GET /a?sv=1&sig=a%2Fb&x=2", "GET /a?sv=1&sig=***&x=2"),
        ("s3://b/c?X-Amz-Signature=12&X-Amz-Credential=34", "s3://b/c?X-Amz-Signature=***&X-Amz-Credential=***"),
        ("https://host/?access_token=abc#frag", "https://host/?access_token=***#frag"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': 'Bearer ***'}"),
        ("authorization: Basic YTpi", "authorization: Basic ***"),
        ("the token hf_abcdefghijklmnopqrstuvwxyz is", "the token *** is"),
    ],
)
def test_what_has_the_shape_of_a_credential_is_taken_out(text, bare):
    assert redacted(text) == bare


@pytest.mark.parametrize(
    "text",
    [
        "https://host/name@revision/file",
        "http://host:8080/a@b",
        "http://[::1]:8080/a@b",
        "mail me@host: https://host",
        "opset 17: basic optimizations, 3 tokens=4, key=value",
        "hf_model_loader and hfopt_hf_hub",
    ],
)
def test_other_text_stays_as_it_is(text):
    assert redacted(text) == text


@given(st.text(alphabet=":/@?#&=[]%a1_ 'sig\n"))
def test_no_text_is_too_odd_to_be_searched_and_none_changes_twice(text):
    once = without_credentials(f"http://{text}")

    assert without_credentials(once) == once


@pytest.mark.parametrize("part", ["a", "://", "://a:", "?a", "?key", "://@", "authorization:", "hf_"])
def test_a_megabyte_is_searched_in_a_second_whatever_it_is(part):
    text = part * (10**6 // len(part))
    start = time.process_time()

    without_credentials(text)

    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", SECRET),
        ("VAULT_TOKEN", SECRET),
        ("HTTPS_PROXY", f"http://user:{SECRET}@proxy"),
        ("http_proxy", f"user:{SECRET}@proxy:3128"),
        ("HF_ENDPOINT", f"https://{SECRET}@host"),
        ("DATA", f"https://host/a?sig={SECRET}"),
    ],
    ids=lambda text: text if SECRET not in text else "",
)
def test_what_a_variable_holds_is_taken_out_of_text_however_it_is_written(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    base64 = b64encode(SECRET.encode()).decode()

    shown = redacted(f"{SECRET} {quote(SECRET, safe='')} {base64} {[SECRET]} a{SECRET}b")

    assert shown == "*** *** *** ['***'] a***b"
    assert SECRET not in str(environment(offline=False))


def test_the_token_of_a_login_is_taken_out_too(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    assert redacted(f"it is {SECRET}") == "it is ***"


def test_bytes_that_are_no_text_in_a_secret_are_no_obstacle():
    script = "from hfopt.base.secrets import redacted; print(redacted('it is s3cr3t-and-long'))"
    given = {**os.environb, b"MY_KEY": b"\xff-odd-bytes", b"OTHER_KEY": SECRET.encode()}

    done = subprocess.run([sys.executable, "-c", script], env=given, capture_output=True, text=True)

    assert done.stdout == "it is ***\n", done.stderr


def test_short_words_of_a_variable_stay_in_text(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "pass")

    assert redacted("the pass failed") == "the pass failed"


def test_every_failure_and_every_progress_is_without_credentials():
    text = f"https://user:{SECRET}@host"

    failure = PreconditionFailed(text, hint=text)
    fault = Fault(type="OSError", message=text, hint=text, traceback=text)

    shown = f"{failure} {failure.message} {failure.hint} {failure.args} {fault} {Progress(key='k', phase=text)}"
    assert SECRET not in shown
    assert shown.count("https://***@host") == 9


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "OPENAI_API_KEY", "PGPASSWORD", "AZURE_CLIENT_SECRET",
     "AZURE_STORAGE_CONNECTION_STRING", "GOOGLE_APPLICATION_CREDENTIALS", "GITHUB_TOKEN", "GIT_CONFIG_VALUE_0"],
)  # fmt: skip
def test_a_name_that_says_secret_is_withheld(name):
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    ["PATH", "TOKENIZERS_PARALLELISM", "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "KEYBOARD", "AWS_REGION",
     "PYTHONPATH", "HF_HOME", "LS_COLORS", "HFOPT_LOCKS", "PWD"],
)  # fmt: skip
def test_other_names_are_not(name):
    assert not looks_secret(name)


def test_children_get_urls_without_passwords_and_what_is_named_to_be_kept():
    given = {
        "HTTPS_PROXY": "http://user:pass@proxy:3128",
        "HTTP_PROXY": "user:pass@proxy:3128",
        "HF_ENDPOINT": "https://host/",
        "MY_KEY": "a",
        "OTHER_KEY": "b",
        "HF_TOKEN": "c",
        "HFOPT_KEEP": "OTHER_KEY,HF_TOKEN",
    }

    assert withheld(given) == {
        "HTTPS_PROXY": "http://proxy:3128",
        "HTTP_PROXY": "http://proxy:3128",
        "MY_KEY": None,
        "HF_TOKEN": None,
    }


def test_what_is_withheld_is_in_the_environment_while_other_machines_are_asked_and_shown_by_proc_never():
    script = """
import json, os
from hfopt.base.processes import credentials, environment, keep_secrets
keep_secrets()
def seen():
    return [os.environ.get("HTTPS_PROXY"), os.environ.get("MY_KEY"), "hidden" in open("/proc/self/environ").read()]
before = seen()
with credentials():
    inside, child = seen(), environment(offline=False)
number = os.environ["HFOPT_WITHHELD"].rpartition("/")[2]
os.system(f"cat /proc/self/fd/{number} 2>&1 | grep -c hidden")
print(json.dumps([before, inside, seen(), "hidden" in str(child), "HFOPT_WITHHELD" in child]))
"""
    given = {**os.environ, "HTTPS_PROXY": "http://user:hidden@proxy", "MY_KEY": "hidden"}
    before = dict(os.environ)
    os.environ.update(given)
    try:
        with secrets_passed() as (files, descriptors):
            command = [sys.executable, "-c", script]
            env = {**environment(offline=False), **files}
            done = subprocess.run(command, env=env, pass_fds=descriptors, capture_output=True, text=True, check=True)
    finally:
        os.environ.clear()
        os.environ.update(before)

    count, told = done.stdout.splitlines()
    without, within = ["http://proxy", None, False], ["http://user:hidden@proxy", "hidden", False]
    assert json.loads(told) == [without, within, without, False, False]
    assert count == "0"


def test_where_nothing_is_withheld_asking_changes_nothing():
    before = dict(os.environ)
    with credentials():
        assert dict(os.environ) == before


def test_whatever_a_worker_prints_is_logged_without_secrets_also_by_its_children(project, misbehave, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@proxy")
    leak = f"import os; print('{SECRET}'); os.system('echo child {SECRET}'); raise OSError('{SECRET}')"
    plugin = project.folder / "leaky.py"
    plugin.write_text(f"{project.plugin.read_text()}\n\nMisbehave.leak = lambda self: exec({leak!r})\n")
    project.plugin = plugin

    done = misbehave("leak")

    files = [file for file in project.folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    written = [file.read_bytes() for file in files if file != plugin]
    assert done.returncode == 1
    assert "OSError: ***" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not any(SECRET.encode() in each for each in written)
    log = (project.folder / "hfopt-output" / "hfopt.log").read_text()
    assert re.search(r"^\*\*\*$", log, re.MULTILINE)
    assert "child ***" in log


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (f"https://user:{SECRET}@host/a.json", ""),
        ({f"https://{SECRET}@host": 1}, ""),
        ([["a", f"https://host/?sig={SECRET}"]], "[0][1]"),
    ],
)
def test_a_config_with_a_credential_is_refused_at_its_place_without_saying_it(project, value, place):
    project.config["data_configs"][0]["params_config"]["data_file"] = value

    done = project.run(command="validate")

    assert done.returncode == 2
    assert re.match(r"hfopt: config.json:1\d: ", done.stderr)
    told = f"data_configs[0].params_config.data_file{place}: holds a password, a token or a signed address: "
    assert told in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_an_error_that_nobody_foresaw_is_shown_without_secrets(project, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    fault = "import os; from hfopt.cli import main; main.build_parser = lambda _: {}[os.environ['MY_KEY']]"

    done = subprocess.run(
        [sys.executable, "-c", f"{fault}; main.main(['runs'])"], capture_output=True, text=True, cwd=project.folder
    )

    assert "KeyError: '***'" in done.stderr
    assert SECRET not in done.stderr
