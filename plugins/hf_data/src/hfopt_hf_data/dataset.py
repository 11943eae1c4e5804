"""The resource ``hf_dataset``: the files of some splits of a dataset on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hfopt import Config
from hfopt.api.resources import Resolved, Resource, ResourceContext
from hfopt_hf_hub import hub
from hfopt_hf_hub.login import token_for
from hfopt_hf_hub.model import Name, Revision


class HfDatasetConfig(Config):
    """Options of ``hf_dataset``."""

    name: Name = Field(description="owner/name on the hub.")
    subset: str | None = Field(None, description="Which part; null: the default, or the only one.")
    split: str | None = Field(None, description="Names joined by +; null: validation, or the only one.")
    revision: Revision | None = Field(None, description="A branch, tag or commit; null: main.")
    rows: int | None = Field(
        None, ge=1, description="Only the first parquet files that hold so many rows of a split; null: all files."
    )


class HfDataset(Resource):
    """A dataset of the Hugging Face hub: the files of the wanted subset and splits; no loading scripts."""

    Config = HfDatasetConfig
    config: HfDatasetConfig
    on_hub = True

    def repository(self, context: ResourceContext) -> hub.Repository:
        """Where it lies."""
        return hub.Repository("dataset", self.config.name, token_for(context))

    def resolve(self, context: ResourceContext) -> Resolved:
        config, revision = self.config, self.config.revision or "main"
        commit = hub.commit_of(self.repository(context), revision, offline=context.offline)
        identity = f"hf:dataset/{config.name}@{commit}:{config.subset or ''}:{config.split or ''}"
        if config.rows is not None:
            identity = f"{identity}:{config.rows}"
        if revision == commit:
            return Resolved(identity, commit)
        return Resolved(identity, commit, f"{config.name}: revision {revision} is {commit[:12]}")

    def fetch(self, pin: str, folder: Path, context: ResourceContext) -> Mapping[str, Any]:
        from hfopt_hf_data.fetching import fetch

        return fetch(self.config, self.repository(context), pin, folder, context)
