"""OptimumConversion: a PyTorch model as the ONNX files that optimum-onnx makes of it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.forecast import Weights, with_bits
from hfopt.api.model import COMPOSITE
from hfopt.api.parity import HALF_RELATIVE, RELATIVE
from hfopt_onnx_model.seq2seq import DECODER, LATER, MERGED, check_later
from hfopt_optimum_passes.options import OptimumConversionConfig

ENVIRONMENT = ("accelerate>=1", "onnxruntime>=1.20", "optimum-onnx>=0.1,<0.2", "transformers>=4.57,<4.58")
"""What optimum-onnx runs with: the extra ``environment`` of this distribution."""
_PYTORCH = "PyTorchModel"


class OptimumConversion(Pass):
    """Takes the model as its loader opens it: with the adapter, dtype and code that ``input_model`` says."""

    Config: ClassVar[type[Config]] = OptimumConversionConfig
    accepts = frozenset({_PYTORCH, COMPOSITE})
    produces = "ONNXModel"
    accelerator_agnostic = True
    keeps_outputs = True
    host = {"type": "PythonEnvironment", "config": {"managed": True, "requirements": [*ENVIRONMENT]}}
    config: OptimumConversionConfig

    def requires(self, model: ModelHandle) -> None:
        if model.type != _PYTORCH:
            raise PreconditionFailed(
                f"takes a model of PyTorch with all its parts, and got a {model.type} of {', '.join(model.components)}",
                hint="let it be the first pass",
            )

    def forecast(self, before: Weights) -> Weights:
        return with_bits(before, 16) if self.config.fp16 else before

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        from hfopt_onnx_model.graph import clean, handle_of, load, save
        from hfopt_optimum_passes.export import export

        with TemporaryDirectory(dir=context.folder) as written:
            with context.open(model, {"attn_implementation": "eager"}) as source:
                context.progress("export", 0, None)
                files = export(source.live, model, self.config, Path(written))
            made = {}
            for name, file in self._chosen(model, files).items():
                target = context.folder / f"{name}.onnx"
                graph = load(file, weights=False)
                clean(graph)
                save(graph, target, self.config, source=file.parent)
                made[name] = handle_of(target, like=_like(model, name))
        result = next(iter(made.values())) if len(made) == 1 else _composite(model, made, context.folder)
        tolerance = HALF_RELATIVE if self.config.fp16 else RELATIVE
        later, source = made.get(LATER) or made.get(MERGED), model.components.get(LATER)
        if later is not None and source is not None:
            check_later(source, later, tolerance, context)
        opset = next(each.version for each in graph.opset_import if not each.domain)
        return PassResult(result, {"summary": f"opset {opset}, {', '.join(made)}", "opset": opset}, tolerance)

    def _chosen(self, model: ModelHandle, files: dict[str, Path]) -> dict[str, Path]:
        """The files that the config or the input model names, or all; of two steps and both in one file, the steps.

        :raises PreconditionFailed: optimum has not made one of them
        """
        every = [name for name in files if name != MERGED or not {DECODER, LATER} <= files.keys()]
        chosen = self.config.components or tuple(model.components) or every
        if missing := [name for name in chosen if name not in files]:
            raise PreconditionFailed(
                f"optimum makes {', '.join(files)} of this model, and no {', no '.join(missing)}",
                hint="name some of those in components; OnnxConversion makes the parts that an OptimumModel names",
            )
        return {name: files[name] for name in chosen}


def _like(model: ModelHandle, name: str) -> ModelHandle:
    """What says how to make examples for a part."""
    return model.components.get(DECODER if name == MERGED else name, model)


def _composite(model: ModelHandle, parts: dict[str, ModelHandle], folder: Path) -> ModelHandle:
    changes: dict[str, Any] = {"type": COMPOSITE, "path": folder, "files": (), "config": {}, "outputs": ()}
    return model.with_(**changes, components=parts)
