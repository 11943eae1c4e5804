"""Where an ONNX model's weights go: inside its file, or beside it as external data.

Light: options of every pass that writes an ONNX file. Reading and writing is `hfopt_onnx_model.graph`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from hfopt import Config


def _plain_name(name: str | None) -> str | None:
    if name is not None and (not name or "/" in name or "\\" in name or name.startswith(".")):
        raise ValueError(f"{name!r} is not a file name: external data lie beside the model")
    return name


class ExternalDataConfig(Config):
    """Options of every pass that writes an ONNX file."""

    save_as_external_data: bool = Field(
        False, description="Write weights into files beside the model; a model of more than 2 GB always does."
    )
    all_tensors_to_one_file: bool = Field(
        True, description="Write external data into one file instead of one for each tensor."
    )
    external_data_name: Annotated[str | None, AfterValidator(_plain_name)] = Field(
        None,
        description="Name of the file of external data, numbered if there are several; null: the model's and .data.",
    )
    size_threshold: int = Field(
        1024,
        ge=0,
        description="Bytes from which a tensor goes to external data; integers of less than 1024 bytes, which may be "
        "shapes, never do.",
    )
    convert_attribute: bool = Field(False, description="Write tensors that are attributes to external data too.")
