"""Options by which Olive's passes take rows from the user's own code: refused, as this version does not run it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from hfopt import Config
from hfopt.api.config import only

_NO_SCRIPTS = "user scripts are not run in this version: name a data_config"


class NoUserScripts(Config):
    """Such options, of whatever type; null and {} ask for nothing."""

    data_dir: Annotated[Any, only(None, because=_NO_SCRIPTS)] = Field(None, description="Not available.")
    dataloader_func: Annotated[str | None, only(None, because=_NO_SCRIPTS)] = Field(None, description="Not available.")
    dataloader_func_kwargs: Annotated[dict[str, Any] | None, only(None, {}, because=_NO_SCRIPTS)] = Field(
        None, description="Not available."
    )
    user_script: Annotated[str | None, only(None, because=_NO_SCRIPTS)] = Field(None, description="Not available.")
    script_dir: Annotated[str | None, only(None, because=_NO_SCRIPTS)] = Field(None, description="Not available.")
