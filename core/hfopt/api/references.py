"""References: what a config means by something that lies elsewhere, before anybody has asked for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hfopt.base.values import strings_in

MARK = "resource:"


@dataclass(frozen=True)
class Reference:
    """A resource as a config means it.

    :param type: the component that resolves and fetches it: ``hf_model``, ``hf_dataset``
    :param config: its options, JSON
    """

    type: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """Stands for the resource in a validated config, until a worker puts what was fetched in its place."""
        return MARK + json.dumps({"type": self.type, "config": self.config}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def of(cls, token: str) -> Reference:
        """The reference that a token stands for."""
        return cls(**json.loads(token.removeprefix(MARK)))

    @classmethod
    def of_url(cls, text: str) -> Reference | None:
        """What a URL refers to: ``s3://bucket/key`` is a resource of type ``s3``, whose option ``url`` it is."""
        scheme, found, _ = text.partition("://")
        return cls(scheme, {"url": text}) if found else None


def tokens_in(value: Any) -> Iterator[str]:
    """Every reference's token in a JSON value."""
    return (text for text in strings_in(value) if text.startswith(MARK))
