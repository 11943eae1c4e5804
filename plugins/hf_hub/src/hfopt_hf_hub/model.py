"""The resource ``hf_model``: a model of the hub, or just its tokenizer and config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from hfopt import Config, PreconditionFailed
from hfopt.api.files import read_json
from hfopt.api.resources import Resolved, Resource, ResourceContext
from hfopt_hf_hub import hub
from hfopt_hf_hub.login import token_for

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What may hold a model's weights, or name the files that do; the first that is there counts.

The last two are pickles. Whoever loads them reads tensors alone (``torch.load`` with ``weights_only``).
"""
COMPANIONS = (
    "*.json",
    "*.jinja",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "*.tokenizer",
    "*.bpe",
    "bpe.codes",
    "dict.txt",
    "merges.txt",
    "vocab.txt",
)
"""Configs of model, generation, tokenizer and processors, vocabularies, chat templates: of the top folder.

Not every ``*.txt``: a licence and a list of requirements are no vocabularies.
"""
TEMPLATES = "additional_chat_templates/*.jinja"


def _name(name: str) -> str:
    if hub.NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a name on a hub; those look like owner/name")
    return name


def _revision(revision: str | None) -> str | None:
    if revision is not None and hub.REVISION.fullmatch(revision) is None:
        raise ValueError(f"{revision!r} is not a branch, tag or commit")
    return revision


Name = Annotated[str, AfterValidator(_name)]
"""The name of a model or dataset on a hub."""
Revision = Annotated[str, AfterValidator(_revision)]
"""A branch, tag or commit."""


class HfModelConfig(Config):
    """Options of ``hf_model``."""

    name: Name = Field(description="owner/name on the hub.")
    revision: Revision | None = Field(None, description="A branch, tag or commit; null: main.")
    weights: bool = Field(True, description="With weights: safetensors, else pytorch_model.bin.")
    code: bool = Field(False, description="With the model's own Python files.")
    files: tuple[str, ...] = Field(
        (), description="Files, as patterns, that are taken instead of the weights if the repository has them all."
    )


class HfModel(Resource):
    """A model of the Hugging Face hub: config, tokenizer, weights; exports and code only where they are asked for."""

    Config = HfModelConfig
    config: HfModelConfig
    on_hub = True

    def _repository(self, context: ResourceContext) -> hub.Repository:
        return hub.Repository("model", self.config.name, token_for(context))

    def resolve(self, context: ResourceContext) -> Resolved:
        revision = self.config.revision or "main"
        commit = hub.commit_of(self._repository(context), revision, offline=context.offline)
        parts = ["" if self.config.weights else "no-weights", "code" if self.config.code else "", *self.config.files]
        identity = ":".join([f"hf:model/{self.config.name}@{commit}", *filter(None, parts)])
        if revision == commit:
            return Resolved(identity, commit)
        return Resolved(identity, commit, f"{self.config.name}: revision {revision} is {commit[:12]}")

    def fetch(self, pin: str, folder: Path, context: ResourceContext) -> Mapping[str, Any]:
        context.progress("download", 0, None)
        repository = self._repository(context)
        there = hub.paths_of(repository, pin, offline=context.offline)
        wanted = companions(there)
        if self.config.code:
            wanted += [path for path in there if path.endswith(".py")]
        if named := self._files(there):
            wanted += named
        elif self.config.weights:
            wanted += self._weights(repository, there, pin, context)
        if not wanted:
            raise PreconditionFailed(f"{self.config.name} has no config and no tokenizer")
        snapshot = hub.download(repository, pin, wanted, offline=context.offline)
        hub.remember(snapshot, self.config.revision or "main")
        return hub.link(snapshot, sorted(set(wanted)), folder)

    def _files(self, there: Sequence[str]) -> list[str]:
        """The files that were asked for; none if one is missing."""
        found = [[path for path in there if fnmatchcase(path, pattern)] for pattern in self.config.files]
        return [path for paths in found for path in paths] if all(found) else []

    def _weights(
        self, repository: hub.Repository, there: Sequence[str], pin: str, context: ResourceContext
    ) -> list[str]:
        """What holds the weights: one file, or an index and its shards.

        :raises PreconditionFailed: there are none
        """
        name = self.config.name
        found = next((path for path in WEIGHTS if path in there), None)
        if found is None and context.offline and "config.json" in there:
            raise hub.incomplete(repository, pin, [WEIGHTS[0]])
        if found is None:
            raise PreconditionFailed(f"{name} has no weights for PyTorch: neither {WEIGHTS[0]} nor {WEIGHTS[2]}")
        return [found, *(self._shards(found, repository, there, pin, context) if found.endswith(".json") else [])]

    def _shards(
        self, path: str, repository: hub.Repository, there: Sequence[str], pin: str, context: ResourceContext
    ) -> list[str]:
        """The files that the index at `path` names; it is downloaded for that.

        :raises PreconditionFailed: it is damaged, or names what the repository lacks or what is of another format
        """
        index, format_ = f"{path} of {self.config.name} at {pin[:12]}", Path(path.removesuffix(".index.json")).suffix
        file = hub.download(repository, pin, [path], offline=context.offline) / path
        try:
            shards = sorted(set(read_json(file)["weight_map"].values()))
            others = [shard for shard in shards if not shard.endswith(format_)]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PreconditionFailed(f"{index} is not an index of weights") from error
        if not shards:
            raise PreconditionFailed(f"{index} names no weights")
        if others:
            raise PreconditionFailed(f"{index} names {hub.some(others)}, which is no {format_} file")
        missing = [shard for shard in shards if shard not in there]
        if missing and context.offline:
            raise hub.incomplete(repository, pin, missing)
        if missing:
            raise PreconditionFailed(
                f"{index} names {hub.some(missing)}, which the repository lacks",
                hint="name a revision that is complete",
            )
        return shards


def companions(paths: Sequence[str]) -> list[str]:
    """Of a repository's files, those that a model can't be used without, its weights aside."""
    return [
        path
        for path in paths
        if fnmatchcase(path, TEMPLATES)
        or ("/" not in path and any(fnmatchcase(path, each) for each in COMPANIONS) and not _is_index(path))
    ]


def _is_index(path: str) -> bool:
    return path.endswith(".index.json")
