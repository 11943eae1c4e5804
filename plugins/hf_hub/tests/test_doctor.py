"""`hfopt doctor`, in a process as users have it, beside a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from hfopt_hf_hub.testing.hub import TOKEN

WITHOUT_FRAMEWORKS = """
import sys
from hfopt.cli.main import main
code = main(sys.argv[1:])
assert not {"torch", "transformers", "onnx", "onnxruntime", "datasets"} & sys.modules.keys()
sys.exit(code)
"""


@pytest.fixture
def doctor(hub):
    """Runs the command as a client of the hub; returns its exit code and what it printed."""

    def run(*arguments, **variables):
        environment = {**os.environ, **hub.environment, **variables}
        command = [sys.executable, "-c", WITHOUT_FRAMEWORKS, "doctor", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        assert TOKEN not in done.stdout
        return done.returncode, done.stdout

    return run


def test_a_token_of_the_environment_or_of_a_login_names_its_place_and_its_account_and_imports_no_framework(hub, doctor):
    code, told = doctor(HF_TOKEN=TOKEN)
    token_file = hub.home / "token"
    hub.home.mkdir()
    token_file.write_text(f"{TOKEN}\n")
    login = json.loads(doctor("--json")[1])

    rows = {(line[:14].strip(), line[14:]) for line in told.splitlines()}
    expected = {"hub": hub.url, "token": "HF_TOKEN", "logged in": "tester"}
    assert code == 0
    assert rows >= {*expected.items(), ("plugin", f"hfopt-hf-hub {version('hfopt-hf-hub')}")}
    assert login["hub"]["token"] == str(token_file)
    assert login["hub"]["account"] == "tester"
    assert login["python"] == ".".join(map(str, sys.version_info[:3]))
    assert [request.path for request in hub.requests] == ["/api/whoami-v2"] * 2


def test_onnx_runtime_is_told_with_its_version_and_execution_providers(doctor):
    onnxruntime = pytest.importorskip("onnxruntime")

    runtime = json.loads(doctor("--json", "--offline")[1])["onnxruntime"]

    expected = {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers(), "problem": None}
    assert runtime == expected


def test_a_token_that_the_hub_refuses_is_exit_code_1_and_what_to_run(doctor):
    code, told = doctor(HF_TOKEN="hf_wrong")

    assert code == 1
    assert "logged in     the hub does not accept the token: run `hf auth login` again, or unset HF_TOKEN\n" in told
    assert "hf_wrong" not in told


def test_without_a_token_nobody_is_logged_in_and_that_is_in_order(hub, doctor):
    code, told = doctor()

    assert code == 0
    assert "token         none of yours\n" in told
    assert "logged in     nobody: run `hf auth login`, or set HF_TOKEN, if a model is gated\n" in told
    assert [request.authorized for request in hub.requests] == [False]


@pytest.mark.parametrize(("arguments", "variables"), [(["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"})])
def test_offline_makes_no_request(hub, doctor, arguments, variables):
    code, told = doctor(*arguments, HF_TOKEN=TOKEN, **variables)

    assert code == 0
    assert "token         HF_TOKEN\nlogged in     not asked: offline\n" in told
    assert hub.requests == []


def test_a_hub_that_is_not_reached_is_a_sentence_without_the_password_of_its_address(doctor):
    code, told = doctor(HF_TOKEN=TOKEN, HF_ENDPOINT="http://user:password@127.0.0.1:9")

    assert code == 0
    assert "hub           http://127.0.0.1:9\n" in told
    assert "127.0.0.1:9 can't be reached for your account: check the connection" in told
    assert "password" not in told


def test_a_plugin_that_is_not_loaded_is_told_with_the_reason_and_exit_code_3(doctor, tmp_path):
    broken = tmp_path / "installed" / "acme_prune-1.0.dist-info"
    broken.mkdir(parents=True)
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-prune\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[hfopt.plugins]\nacme = acme_prune.hooks\n")

    code, told = doctor("--offline", PYTHONPATH=str(broken.parent))

    assert code == 3
    assert "plugin        acme-prune 1.0: NOT LOADED: " in told
    assert "No module named 'acme_prune'" in told
