"""Options by which passes take rows from functions of the user's; with dataloader_func they are a data config."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hfopt import Config

_NO_FUNCTION = "there is no dataloader_func"


class RowsFromFunction(Config):
    """Such options: what remains of them where there is no dataloader_func."""

    dataloader_func: str | None = Field(
        None,
        description="A function of user_script that yields batches, instead of data_config: see DataloaderFunc.",
    )
    dataloader_func_kwargs: dict[str, Any] | None = Field(None, description="More arguments of dataloader_func.")
    data_dir: Any = Field(None, description="A file or folder that dataloader_func is given.")
    user_script: str | None = Field(None, description="The Python file that has dataloader_func.")
    script_dir: str | None = Field(None, description="A folder from which user_script may import.")

    def ignored(self) -> dict[str, str]:
        return {**super().ignored(), **dict.fromkeys(self.written(*RowsFromFunction.model_fields), _NO_FUNCTION)}
