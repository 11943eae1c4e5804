"""hfopt: makes Hugging Face models small and fast and proves that they still work.

Every public name is loaded when it is first used: `import hfopt` imports nothing else. Types: ``__init__.pyi``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {
    "hfopt.api.choosing": ("PassChooser",),
    "hfopt.api.commands": ("Command",),
    "hfopt.api.config": ("Config", "DataName", "InputPath"),
    "hfopt.api.data": ("Batch", "DataContainer", "DataContext", "Dataset"),
    "hfopt.api.metrics": ("MetricBackend", "Statistic", "WholeStatistic"),
    "hfopt.api.model": ("Accelerator", "FetchContext", "ModelHandle", "ModelLoader", "Session", "TensorSpec"),
    "hfopt.api.packaging": ("Packager", "RankedModel"),
    "hfopt.api.passes": ("Pass", "PassContext", "PassResult"),
    "hfopt.api.references": ("Reference",),
    "hfopt.api.resources": ("Resolved", "Resource", "ResourceContext", "TokenProvider"),
    "hfopt.api.search": ("SearchAlgorithm",),
    "hfopt.api.systems": ("System",),
    "hfopt.base.component": ("Component", "hookimpl"),
    "hfopt.base.errors": ("ConfigError", "HfoptError", "PluginError", "PreconditionFailed", "Problem", "UsageError"),
    "hfopt.base.version": ("__version__",),
    "hfopt.cli.terminal": ("Terminal",),
    "hfopt.engine.foresight": ("cached",),
    "hfopt.engine.record": ("RunRecord",),
    "hfopt.engine.run": ("run",),
    "hfopt.planning.builder": ("plan", "validate"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULES)


def __dir__() -> list[str]:
    """The public names, for completion: not the modules that happen to be loaded."""
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hfopt' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
