"""Components that Olive's configs name and no distribution of this workspace offers: for a message that says so.

A plugin of somebody else's may offer any of them, and is found first. None of them is in `hfopt.discovery.known`.
"""

UNAVAILABLE: dict[str, tuple[str, ...]] = {
    "hfopt_model_loaders": (
        "CompositeModel",
        "CompositePyTorchModel",
        "DistributedOnnxModel",
        "DistributedPyTorchModel",
        "OpenVINOModel",
        "OptimumModel",
        "QNNModel",
        "SNPEModel",
        "TensorFlowModel",
    ),
    "hfopt_data_containers": ("DataContainer", "DummyDataContainer", "RawDataContainer"),
    "hfopt_metric_backends": ("torch_metrics",),
    "hfopt_passes": (
        "AppendPrePostProcessingOps",
        "AutoAWQQuantizer",
        "ExtractAdapters",
        "GptqQuantizer",
        "IncDynamicQuantization",
        "IncQuantization",
        "IncStaticQuantization",
        "InsertBeamSearch",
        "LoRA",
        "LoftQ",
        "MixedPrecisionOverrides",
        "ModelBuilder",
        "MoEExpertsDistributor",
        "OnnxBnb4Quantization",
        "OnnxModelOptimizer",
        "OpenVINOConversion",
        "OpenVINOQuantization",
        "OptimumConversion",
        "OptimumMerging",
        "PyTorchTensorParallel",
        "QLoRA",
        "QNNContextBinaryGenerator",
        "QNNConversion",
        "QNNModelLibGenerator",
        "QNNPreprocess",
        "QuantizationAwareTraining",
        "SNPEConversion",
        "SNPEQuantization",
        "SNPEtoONNXConversion",
        "SliceGPT",
        "SparseGPT",
        "TorchTRTConversion",
        "VitisAIQuantization",
    ),
    "hfopt_systems": (
        "AzureML",
        "AzureND12SSystem",
        "AzureND24RSSystem",
        "AzureND24SSystem",
        "AzureND6SSystem",
        "AzureND96ASystem",
        "AzureND96A100System",
        "AzureNDV2System",
        "Docker",
        "IsolatedORT",
        "PythonEnvironment",
        "SurfaceProSystem1796",
        "SurfaceProSystem1807",
    ),
    "hfopt_resources": (),
    "hfopt_packagers": ("AzureMLData", "AzureMLDeployment", "AzureMLModels"),
}


def unavailable(hook: str, name: str) -> str | None:
    """The proper spelling of a component of Olive's that this version does not have; None if it is none of those."""
    short = name.rpartition(":")[2].casefold()
    return next((each for each in UNAVAILABLE[hook] if each.casefold() == short), None)
