"""What all passes leave in an empty home folder is what docs/reference/files.md lists, and nobody is told of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "files.md"
LISTED = re.findall(
    r"^\| `((?:~|\$TMPDIR)/[^`]+)`", PAGE.read_text().partition("below the home folder")[2], re.MULTILINE
)
UNSET = (
    "CI",
    "HF_HOME",
    "HF_HUB_CACHE",
    "ORT_DISABLE_TELEMETRY",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An environment with an empty home folder and an empty TMPDIR, and what is in them later, as the page calls it."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    for name, folder in {"HOME": home, "TMPDIR": scratch, "HFOPT_LOCKS": tmp_path / "locks"}.items():
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))

    def written() -> list[str]:
        caches = {os.environ["XDG_CACHE_HOME"]: "~/.cache"} if "XDG_CACHE_HOME" in os.environ else {}
        found = []
        for folder, name in {str(home): "~", str(scratch): "$TMPDIR", **caches}.items():
            below = sorted(Path(folder).rglob("*"))
            found += [
                f"{name}/{each.relative_to(folder)}" for each in below if each.is_file() or not any(each.iterdir())
            ]
        return found

    return written


def unlisted(written: list[str]) -> list[str]:
    return [each for each in written if not any(fnmatchcase(each, listed) for listed in LISTED)]


def traced(log: Path) -> list[str]:
    """Begins a command whose connections, those of native code too, are written to a file; nothing without strace."""
    if shutil.which("strace") and subprocess.run(["strace", "-o", os.devnull, "true"], check=False).returncode == 0:
        return ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(log)]
    return []


def test_the_page_lists_what_may_be_written():
    assert len(LISTED) == 7
    assert unlisted(["~/.cache/huggingface/hub/models--a--b/refs/main", "$TMPDIR/torchinductor_me"]) == []
    device = "~/.cache/Microsoft/DeveloperTools/.onnxruntime/deviceid"
    assert unlisted([device, "~/.config/x"]) == [device, "~/.config/x"]


def test_workers_and_timing_processes_write_nothing_else_and_connect_to_nobody(
    thread, fresh, without_sockets, tmp_path
):
    thread.environment = without_sockets
    thread.write()
    log = tmp_path / "connections"

    command = [*traced(log), *thread.command("run", "config.json")]
    done = subprocess.run(
        command, cwd=thread.folder, env={**os.environ, **without_sockets}, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert unlisted(fresh()) == []
    assert [line for line in (log.read_text().splitlines() if log.exists() else []) if "AF_INET" in line] == []


def test_neither_does_a_run_in_process_where_xdg_names_the_cache(thread, fresh, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    done = thread.run("--in-process")

    assert done.returncode == 0, done.stderr
    assert unlisted(fresh()) == []


def test_neither_does_a_run_of_a_model_and_data_from_the_hub(thread, fresh, hub, tiny_model):
    hub.add_model("acme/tiny", tiny_model)
    thread.config["input_model"]["config"] = {"hf_config": {"model_name": "acme/tiny", "task": "text-classification"}}
    thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
    places = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN_PATH")
    thread.environment = {name: value for name, value in hub.environment.items() if name not in places}

    done = thread.run()

    written = fresh()
    assert done.returncode == 0, done.stderr
    assert any(each.startswith("~/.cache/huggingface/hub/models--acme--tiny/") for each in written)
    assert unlisted(written) == []


def test_neither_does_a_command_of_a_plugin(finished, fresh):
    model = finished.config["input_model"]["config"]["model_path"]

    done = subprocess.run(
        [sys.executable, "-m", "hfopt", "init", model, "--data", "rows.csv", "-o", "made.json"],
        cwd=finished.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert unlisted(fresh()) == []
