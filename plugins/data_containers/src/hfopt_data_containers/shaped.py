"""DummyDataContainer and RawDataContainer: arrays of stated shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from hfopt import Config, DataContext, InputPath, PreconditionFailed
from hfopt.api.arrays import Array
from hfopt.api.config import OptionError
from hfopt_data_containers.batches import Made, write
from hfopt_data_containers.container import (
    AS_THEY_ARE,
    DATALOADER,
    LOAD,
    SAME,
    ComponentContainer,
    ContainerOptions,
    Types,
)

DUMMY_SAMPLES = 256
_BATCHES = "a batch is what input_shapes says"


class ShapeOptions(ContainerOptions):
    """What inputs are."""

    input_names: tuple[str, ...] = Field(min_length=1, description="The model's inputs.")
    input_shapes: tuple[tuple[int, ...], ...] = Field(description="The shape of each, a batch first.")
    input_types: tuple[str, ...] | None = Field(None, description="NumPy's name of each type; null: float32.")
    batch_size: int | None = Field(None, description=f"Of no effect: {_BATCHES}.")

    @model_validator(mode="after")
    def _go_together(self) -> ShapeOptions:
        for option in ("input_shapes", "input_types"):
            values = getattr(self, option)
            if values is not None and len(values) != len(self.input_names):
                raise OptionError(option, f"has {len(values)} entries, and input_names {len(self.input_names)}")
        return self

    def ignored(self) -> dict[str, str]:
        return dict.fromkeys(self.written("batch_size"), _BATCHES)

    def inputs(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        """The name, shape and type of each input."""
        types = self.input_types or ("float32",) * len(self.input_names)
        return zip(self.input_names, self.input_shapes, types, strict=True)


class DummyOptions(ShapeOptions):
    """Options of ``DummyDataContainer``."""

    data_dir: Any = Field(None, description="Of no effect: nothing is read.")


class RawOptions(ShapeOptions):
    """Options of ``RawDataContainer``."""

    data_dir: InputPath = Field(description="The folder that the others are in.")
    input_dirs: tuple[str, ...] | None = Field(None, description="The folder of each input; null: its name.")
    input_suffix: str | None = Field(None, description="How names of files end; null: as they do.")
    input_order_file: str | None = Field(
        None, description="A file with the name of a file on each line; null: by name, as the first input has them."
    )
    annotations_file: str | None = Field(None, description="A .npy file with the label of each file in order.")

    @model_validator(mode="after")
    def _a_folder_each(self) -> RawOptions:
        if self.input_dirs is not None and len(self.input_dirs) != len(self.input_names):
            raise OptionError(
                "input_dirs", f"has {len(self.input_dirs)} entries, and input_names {len(self.input_names)}"
            )
        return self


class DummyData(ComponentContainer):
    """Ones: 256 batches of them, each with label 0."""

    Config: ClassVar[type[Config]] = DummyOptions
    components: ClassVar[Types] = {LOAD: {"dummy_dataset": None}, **SAME, DATALOADER: AS_THEY_ARE}
    flat = (LOAD,)
    config: DummyOptions

    def prepare(self, context: DataContext) -> None:
        write(self._made(), context.folder, context.progress, times=DUMMY_SAMPLES)

    def _made(self) -> Iterator[Made]:
        import numpy as np

        feeds = {name: np.ones(shape, dtype=kind) for name, shape, kind in self.config.inputs()}
        first = next(iter(feeds.values()))
        yield Made(feeds, np.zeros(len(first) if first.ndim else 1, dtype=np.int64))


class RawData(ComponentContainer):
    """Files that are the bytes of arrays, a batch each."""

    Config: ClassVar[type[Config]] = RawOptions
    components: ClassVar[Types] = {LOAD: {"raw_dataset": None}, **SAME, DATALOADER: AS_THEY_ARE}
    flat = (LOAD,)
    config: RawOptions

    def _made(self) -> Iterator[Made]:
        import numpy as np

        config, labels = self.config, None
        folder, names = Path(config.data_dir), self._names()
        if config.annotations_file is not None:
            labels = np.load(_inside(folder, config.annotations_file), allow_pickle=False)
            if len(labels) != len(names):
                raise PreconditionFailed(f"{config.annotations_file} has {len(labels)} labels for {len(names)} files")
        for number, name in enumerate(names):
            feeds = {
                each: _raw(_inside(folder, f"{place}/{name}"), shape, kind)
                for place, (each, shape, kind) in zip(self._folders(), config.inputs(), strict=True)
            }
            yield Made(feeds, None if labels is None else np.atleast_1d(labels[number]))

    def _folders(self) -> tuple[str, ...]:
        return self.config.input_dirs or self.config.input_names

    def _names(self) -> list[str]:
        config, suffix = self.config, self.config.input_suffix or ""
        folder = Path(config.data_dir)
        if config.input_order_file is not None:
            lines = _inside(folder, config.input_order_file).read_text("utf-8").split("\n")
            named = [line.strip() for line in lines if line.strip()]
            return [name if name.endswith(suffix) else name + suffix for name in named]
        first = folder / self._folders()[0]
        if not first.is_dir():
            raise PreconditionFailed(f"no such folder: {first}", hint="set input_dirs")
        return sorted(each.name for each in first.iterdir() if each.is_file() and each.name.endswith(suffix))


def _inside(folder: Path, name: str) -> Path:
    """A file of the folder.

    :raises PreconditionFailed: it is not there, or outside
    """
    found = (folder / name).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise PreconditionFailed(f"{name} leads out of {folder}")
    if not found.is_file():
        raise PreconditionFailed(f"no such file: {folder / name}")
    return found


def _raw(file: Path, shape: tuple[int, ...], kind: str) -> Array:
    import numpy as np

    wanted = int(np.prod(shape)) * np.dtype(kind).itemsize
    if file.stat().st_size != wanted:
        shown = f"{file.stat().st_size:,} bytes, and {kind} {[*shape]} takes {wanted:,}"
        raise PreconditionFailed(f"{file} has {shown}")
    found: Array = np.fromfile(file, dtype=kind).reshape(shape)
    return found
