"""How a plugin declares what it offers: a name and an import path, nothing imported.

Light on purpose (pluggy only): every plugin's hooks.py imports this, and `hfopt --help` imports every hooks.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import pluggy

PROJECT = "hfopt"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Component:
    """One capability of a plugin, imported only when a config names it.

    :param name: what a config calls it; matched without regard to case
    :param target: ``"module:Class"``; the module must import no ML framework at its top level
    :param summary: one line for ``hfopt plugins``
    :raises TypeError: one of them is not a string
    :raises ValueError: one of them can't be what it is for
    """

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        if not all(isinstance(each, str) for each in (self.name, self.target, self.summary)):
            raise TypeError(f"component {self.name!r}: name, target and summary must be strings")
        if not self.name.strip() or ":" in self.name:
            raise ValueError(f"component {self.name!r}: a name is not empty and has no colon")
        module, _, attribute = self.target.partition(":")
        if not (module and attribute.isidentifier()):
            raise ValueError(f"component {self.name!r}: target {self.target!r} is not of the form 'module:Class'")
