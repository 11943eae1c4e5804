"""The documentation says what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from hfopt.cli import COMMANDS
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


@pytest.mark.parametrize("text", blocks("python"))
def test_a_python_snippet_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    exec(compile(text, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("text", blocks("sh"))
def test_a_shell_snippet_names_only_targets_and_commands_that_exist(text):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(re.findall(r"hfopt ([a-z-]+)", text))

    named = " ".join(re.findall(r"^make ([a-z -]+)", text, re.MULTILINE)).split()
    assert set(named) <= targets
    assert commands <= set(COMMANDS)
    configs = [file for file in re.findall(r"\S+/\S+\.json", text) if not file.startswith("build/")]
    assert [file for file in configs if not (ROOT / file).exists()] == []
