"""The resource ``hf_space``: the Python files of a space, such as a metric of Hugging Face's evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hfopt import Config, PreconditionFailed
from hfopt.api.resources import Resolved, Resource, ResourceContext
from hfopt_hf_hub import hub
from hfopt_hf_hub.login import token_for
from hfopt_hf_hub.model import Name, Revision


class HfSpaceConfig(Config):
    """Options of ``hf_space``."""

    name: Name = Field(description="owner/name on the hub.")
    revision: Revision | None = Field(None, description="A branch, tag or commit; null: main.")


class HfSpace(Resource):
    """The code of a space, in a folder of the space's name, where evaluate looks for it; fetching does not run it."""

    Config = HfSpaceConfig
    config: HfSpaceConfig
    on_hub = True

    def _repository(self, context: ResourceContext) -> hub.Repository:
        return hub.Repository("space", self.config.name, token_for(context))

    def resolve(self, context: ResourceContext) -> Resolved:
        name, revision = self.config.name, self.config.revision or "main"
        commit = hub.commit_of(self._repository(context), revision, offline=context.offline)
        notice = None if revision == commit else f"{name}: revision {revision} is {commit[:12]}"
        return Resolved(f"hf:space/{name}@{commit}", commit, notice)

    def fetch(self, pin: str, folder: Path, context: ResourceContext) -> Mapping[str, Any]:
        context.progress("download", 0, None)
        repository = self._repository(context)
        code = [path for path in hub.paths_of(repository, pin, offline=context.offline) if path.endswith(".py")]
        if not code:
            raise PreconditionFailed(f"{self.config.name} has no Python files")
        snapshot = hub.download(repository, pin, code, offline=context.offline)
        hub.remember(snapshot, self.config.revision or "main")
        return hub.link(snapshot, code, folder / self.config.name.rpartition("/")[2])
