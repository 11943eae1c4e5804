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

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
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
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


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
    weights: bool = Field(True, description="With weights, which must be safetensors.")


class HfModel(Resource):
    """A model of the Hugging Face hub: config, tokenizer and safetensors; no pickles, no exports, no code."""

    Config = HfModelConfig
    config: HfModelConfig

    @property
    def _repository(self) -> hub.Repository:
        return hub.Repository("model", self.config.name)

    def resolve(self, context: ResourceContext) -> Resolved:
        revision = self.config.revision or "main"
        commit = hub.commit_of(self._repository, revision, offline=context.offline)
        part = "" if self.config.weights else ":no-weights"
        identity = f"hf:model/{self.config.name}@{commit}{part}"
        if revision == commit:
            return Resolved(identity, commit)
        return Resolved(identity, commit, f"{self.config.name}: revision {revision} is {commit[:12]}")

    def fetch(self, pin: str, folder: Path, context: ResourceContext) -> Mapping[str, Any]:
        context.progress("download", 0, None)
        there = hub.paths_of(self._repository, pin, offline=context.offline)
        wanted = companions(there)
        if self.config.weights:
            wanted += self._weights(there, pin, context)
        if not wanted:
            raise PreconditionFailed(f"{self.config.name} has no config and no tokenizer")
        snapshot = hub.download(self._repository, pin, wanted, offline=context.offline)
        hub.remember(snapshot, self.config.revision or "main")
        return hub.link(snapshot, sorted(wanted), folder)

    def _weights(self, there: Sequence[str], pin: str, context: ResourceContext) -> list[str]:
        """What holds the weights: one file, or an index and its shards.

        :raises PreconditionFailed: there are none, or there are only pickles
        """
        name = self.config.name
        if WEIGHTS in there:
            return [WEIGHTS]
        if INDEX in there:
            return [INDEX, *self._shards(there, pin, context)]
        if context.offline and "config.json" in there and not any(path in there for path in _PICKLES):
            raise hub.incomplete(self._repository, pin, [WEIGHTS])
        if any(path in there for path in _PICKLES):
            raise PreconditionFailed(
                f"{name} has its weights as pickles, which can run any code when they are loaded",
                hint="name a revision with safetensors, or save it again: model.save_pretrained(folder)",
            )
        raise PreconditionFailed(f"{name} has no weights as safetensors: no {WEIGHTS}")

    def _shards(self, there: Sequence[str], pin: str, context: ResourceContext) -> list[str]:
        """The files that the index names; it is downloaded for that.

        :raises PreconditionFailed: it is damaged, or names what the repository lacks or what is not safetensors
        """
        index = f"{INDEX} of {self.config.name} at {pin[:12]}"
        file = hub.download(self._repository, pin, [INDEX], offline=context.offline) / INDEX
        try:
            shards = sorted(set(read_json(file)["weight_map"].values()))
            pickles = [path for path in shards if not path.endswith(".safetensors")]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PreconditionFailed(f"{index} is not an index of weights") from error
        if not shards:
            raise PreconditionFailed(f"{index} names no weights")
        if pickles:
            raise PreconditionFailed(f"{index} names {hub.some(pickles)}, which is not safetensors")
        missing = [path for path in shards if path not in there]
        if missing and context.offline:
            raise hub.incomplete(self._repository, pin, missing)
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
