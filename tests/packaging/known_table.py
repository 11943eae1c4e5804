"""Prints core/hfopt/discovery/known.toml as the hooks of the distributions under plugins/ have it (`make known`)."""

from __future__ import annotations

import tomllib
from pathlib import Path

from hfopt.discovery.plugins import KINDS, Plugins

ROOT = Path(__file__).parents[2]


def workspace() -> dict[str, Path]:
    """The distributions under plugins/, with their folders."""
    found = {}
    for file in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        found[tomllib.loads(file.read_text())["project"]["name"]] = file.parent
    return found


def install_line(folder: Path) -> str:
    """What a user types in the clone."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    cpu = "cpu" in project.get("optional-dependencies", {})
    return f"pip install './plugins/{folder.name}[cpu]'" if cpu else f"pip install ./plugins/{folder.name}"


def render() -> str:
    """The file's text."""
    components = Plugins.discover().components
    lines = ["# Which distribution offers what: `make known` writes it, from the hooks of those under plugins/."]
    for distribution, folder in sorted(workspace().items()):
        lines += ["", f"[{distribution}]", f'install = "{install_line(folder)}"']
        for hook in KINDS:
            own = sorted(
                each.component.name for each in components if (each.distribution, each.hook) == (distribution, hook)
            )
            lines += [f"{hook} = [", *(f'    "{name}",' for name in own), "]"] if own else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
