"""What a host and a worker say to each other: one JSON object per line.

Host to worker: a `Request`. Worker to host: `Progress` events and one `StepResult` per step, in order.
Arrays and models never cross; they lie in the artifact store and are named by key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from hfopt.api.model import Accelerator
from hfopt.api.parity import Parity
from hfopt.base.secrets import redacted
from hfopt.base.text import shown

PROTOCOL = 2

StepKind = Literal["fetch", "data", "pass", "predict", "score", "measure"]
Question = Literal["resolve", "probe", "versions", "machine", "load"]
"""What a worker answers without making an artifact: what a reference means now; what an accelerator lacks; which
versions components depend on; what of the machine a timing depends on; what else runs on it."""
_Shown = Annotated[str, AfterValidator(lambda text: shown(redacted(text)))]
"""What people read, and what may repeat a file or the environment: no credential and no control character is in it."""
INPUT = "input:"
"""Begins the token that stands for a local input of the user's: the rest is the digest of its content."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class StepRequest(_Message):
    """One step of work, and all that it needs, so that a system can bring it to another machine.

    ``inputs`` maps a role (``model``, ``data.<name>``, ``predictions``, a reference's token) to the key of the artifact
    that plays it. ``config`` holds no path of the host: a token stands for each input, and ``paths`` says where the
    worker finds it. ``distributions`` are the plugins that the step needs, with the host's versions.
    """

    key: str
    name: str
    kind: StepKind | Question
    component: str = Field(description="plugin:Name of the loader, container or pass; core's name for other kinds.")
    config: dict[str, Any]
    inputs: dict[str, str]
    recipe: dict[str, Any] = Field({}, description="What the key was made of, for the artifact to tell.")
    paths: dict[str, str] = Field({}, description="Local inputs: absolute path by token.")
    distributions: dict[str, str] = Field({}, description="Version by name, of hfopt and the plugins needed.")
    pin: str | None = Field(None, description="Which version of a resource to fetch.")
    hf_token: bool | None = Field(None, description="Of a resource: whether a token is sent; null: if there is one.")
    accelerator: Accelerator
    threads: int
    measures: bool = Field(False, description="It times models: nothing else may run on its machine meanwhile.")
    parity: Parity | None = Field(None, description="How the new model is compared with the one before; None: not.")
    seed: int = 0


class Request(_Message):
    """A list of steps, each perhaps on results of earlier ones."""

    protocol: int = PROTOCOL
    steps: tuple[StepRequest, ...]


class Fault(_Message):
    """Why a step failed.

    ``expected`` is false for a bug: then the traceback goes to the log and its last line to the user.
    """

    type: str
    message: _Shown
    hint: _Shown | None = None
    expected: bool = True
    traceback: _Shown | None = None


class Progress(_Message):
    """How far a step is. ``total`` is null where the count is unknown."""

    event: Literal["progress"] = "progress"
    key: str
    phase: _Shown
    done: int = 0
    total: int | None = None


class StepResult(_Message):
    """How a step ended: its artifact lies in the store under the key, unless there is a fault."""

    event: Literal["result"] = "result"
    key: str
    fault: Fault | None = None
    seconds: float = 0.0
    peak_rss_bytes: int | None = None
    manifest: dict[str, Any] | None = Field(None, description="Of the artifact, as it was when it was made.")
    answer: dict[str, Any] | None = Field(None, description="To a question; what a step makes is in its artifact.")


Message = TypeAdapter[Progress | StepResult](Annotated[Progress | StepResult, Field(discriminator="event")])
