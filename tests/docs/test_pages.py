"""The documentation says what the code does."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from hfopt.api.commands import OWN
from hfopt.api.scripts import EVERYWHERE
from hfopt.config.document import read

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")])
LINK = re.compile(r"\[[^]]*\]\(([^)#]+)[^)]*\)")


def blocks(language: str) -> list:
    found = []
    for page in PAGES:
        for number, match in enumerate(re.finditer(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)):
            found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT)}-{number}"))
    return found


def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "components.md", "config.md", "hooks.md", "olive-keys.md"])
def test_a_reference_page_is_what_the_code_yields(name):
    made = generate().PAGES[name]()

    assert (ROOT / "docs" / "reference" / name).read_text() == made, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("text", blocks("json"))
def test_a_json_snippet_reads_as_a_config_file_would(text, tmp_path):
    (tmp_path / "snippet.json").write_text(text)

    assert read(tmp_path / "snippet.json").value is not None


SNIPPET_CONFIG = {
    "input_model": {"type": "Line", "config": {"model_path": "line.json"}},
    "data_configs": [{"name": "points", "type": "Points", "params_config": {"data_file": "points.json"}}],
    "evaluators": {"e": {"metrics": [{
        "name": "accuracy", "type": "accuracy", "backend": "toy_metrics", "data_config": "points",
        "sub_types": [{"name": "accuracy"}],
    }]}},
    "passes": {"scale": {"type": "Scale", "config": {"factor": 2.0}}},
    "engine": {"evaluator": "e"},
}  # fmt: skip


@pytest.fixture
def a_config_and_what_it_needs(tmp_path, monkeypatch):
    """In the current folder a config.json that takes milliseconds, its plugin installed."""
    (tmp_path / "config.json").write_text(json.dumps(SNIPPET_CONFIG))
    (tmp_path / "line.json").write_text('{"slope": 0.5}')
    (tmp_path / "points.json").write_text("[[1.0, 0], [3.0, 1]]")
    installed = tmp_path / "installed"
    (installed / "toy-1.0.dist-info").mkdir(parents=True)
    (installed / "toy.py").write_text((ROOT / "tests" / "core" / "toy.py").read_text())
    (installed / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (installed / "toy-1.0.dist-info" / "entry_points.txt").write_text("[hfopt.plugins]\ntoy = toy\n")
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", blocks("python"))
@pytest.mark.usefixtures("a_config_and_what_it_needs")
def test_a_python_snippet_runs(text):

    exec(compile(text, "snippet", "exec"), {"__name__": "snippet", **EVERYWHERE})


@pytest.mark.parametrize("text", blocks("sh"))
def test_a_shell_snippet_names_only_targets_and_commands_that_exist(text):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(re.findall(r"hfopt ([a-z-]+)", text))

    named = " ".join(re.findall(r"^make ([a-z -]+)", text, re.MULTILINE)).split()
    assert set(named) <= targets
    assert commands <= {*OWN, "doctor", "init", "plan"}
    configs = [file for file in re.findall(r"\S+/\S+\.json", text) if not file.startswith("build/")]
    assert [file for file in configs if not (ROOT / file).exists()] == []
