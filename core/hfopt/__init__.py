"""hfopt: makes Hugging Face models small and fast and proves that they still work.

Public names only, each loaded when first used, so that `import hfopt` costs a plugin's hooks.py almost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hfopt.base.component import Component, hookimpl
from hfopt.base.version import __version__

if TYPE_CHECKING:
    from hfopt.api.config import Config, DataName, InputPath
    from hfopt.api.data import Batch, DataContainer, DataContext, Dataset
    from hfopt.api.metrics import MetricBackend, Statistic
    from hfopt.api.model import Accelerator, FetchContext, ModelHandle, ModelLoader, Session, TensorSpec
    from hfopt.api.packaging import Packager, RankedModel
    from hfopt.api.passes import Pass, PassContext, PassResult
    from hfopt.api.resources import Reference, Resolved, Resource, ResourceContext
    from hfopt.api.systems import System
    from hfopt.base.errors import ConfigError, HfoptError, PluginError, PreconditionFailed, Problem
    from hfopt.cli.terminal import Terminal
    from hfopt.engine.record import RunRecord
    from hfopt.engine.run import run
    from hfopt.planning.builder import plan, validate

_HOMES = {
    "hfopt.api.config": ("Config", "DataName", "InputPath"),
    "hfopt.api.data": ("Batch", "DataContainer", "DataContext", "Dataset"),
    "hfopt.api.metrics": ("MetricBackend", "Statistic"),
    "hfopt.api.model": ("Accelerator", "FetchContext", "ModelHandle", "ModelLoader", "Session", "TensorSpec"),
    "hfopt.api.packaging": ("Packager", "RankedModel"),
    "hfopt.api.passes": ("Pass", "PassContext", "PassResult"),
    "hfopt.api.resources": ("Reference", "Resolved", "Resource", "ResourceContext"),
    "hfopt.api.systems": ("System",),
    "hfopt.engine.run": ("run",),
    "hfopt.base.errors": ("ConfigError", "HfoptError", "PluginError", "PreconditionFailed", "Problem"),
    "hfopt.planning.builder": ("plan", "validate"),
    "hfopt.engine.record": ("RunRecord",),
    "hfopt.cli.terminal": ("Terminal",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Accelerator",
    "Batch",
    "Component",
    "Config",
    "ConfigError",
    "DataContainer",
    "DataContext",
    "DataName",
    "Dataset",
    "FetchContext",
    "HfoptError",
    "InputPath",
    "MetricBackend",
    "ModelHandle",
    "ModelLoader",
    "Packager",
    "Pass",
    "PassContext",
    "PassResult",
    "PluginError",
    "PreconditionFailed",
    "Problem",
    "RankedModel",
    "Reference",
    "Resolved",
    "Resource",
    "ResourceContext",
    "RunRecord",
    "Session",
    "Statistic",
    "System",
    "TensorSpec",
    "Terminal",
    "__version__",
    "hookimpl",
    "plan",
    "run",
    "validate",
]


def __dir__() -> list[str]:
    """What there is to use, for completion: not the modules that happen to be loaded."""
    return list(__all__)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hfopt' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
