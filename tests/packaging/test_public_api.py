"""What a plugin may import of the core: the names in public_api.toml, and nothing else."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hfopt

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "hfopt"
LISTED = tomllib.loads(Path(__file__).with_name("public_api.toml").read_text("utf-8"))
NAMES = {f"{module}.{name}" for module, names in LISTED.items() for name in names}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(CORE.parent).with_suffix("").parts).removesuffix(".__init__")


def defined(file: Path) -> set[str]:
    """A module's public names: what ``__all__`` lists, or else what it defines at its top."""
    names = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    if "__all__" in names:
        return set(importlib.import_module(module_of(file)).__all__)
    return {name for name in names if not name.startswith("_")}


def public() -> set[str]:
    """Every public name with its module."""
    files = [CORE / "__init__.py", *(CORE / "api").glob("*.py"), *(CORE / "testing").glob("*.py")]
    return {f"{module_of(file)}.{name}" for file in files for name in defined(file)}


def test_the_public_names_are_those_that_are_listed():
    changes = {"added": sorted(public() - NAMES), "removed": sorted(NAMES - public())}

    assert changes == {"added": [], "removed": []}, "change public_api.toml and tell plugin authors in CHANGELOG.md"


def test_the_stub_says_of_every_public_name_where_it_is():
    stub = ast.parse((CORE / "__init__.pyi").read_text("utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    written = {each.asname: (node.module, each.name) for node in imports for each in node.names}

    assert written == {name: (module, name) for name, module in hfopt._MODULES.items()}
    for name, (module, _) in written.items():
        assert getattr(hfopt, name) is getattr(importlib.import_module(module), name)


def test_importing_hfopt_imports_nothing_else_of_it_nor_pydantic():
    program = "import sys, hfopt; print([name for name in sys.modules if name.startswith(('hfopt.', 'pydantic'))])"

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


@pytest.mark.parametrize("plugin", sorted(ROOT.glob("plugins/*")), ids=lambda plugin: plugin.name)
def test_a_plugin_and_its_tests_import_only_what_is_public(plugin):
    private = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {name}"
        for file in plugin.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        for name in imported(node)
        if name.partition(".")[0] == "hfopt" and name not in NAMES and name not in LISTED
    ]

    assert private == []


def imported(node: ast.AST) -> list[str]:
    """What a statement imports: modules, and names with their module."""
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [f"{node.module}.{each.name}" for each in node.names]
    return []
