"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_data_containers() -> list[Component]:
    module = "hfopt_data_containers.functions"
    return [
        Component(
            "DataContainer",
            "hfopt_data_containers.user_data:UserData",
            "Data that functions of yours load, preprocess, batch or postprocess",
        ),
        Component("DummyDataContainer", "hfopt_data_containers.shaped:DummyData", "256 batches of ones"),
        Component("RawDataContainer", "hfopt_data_containers.shaped:RawData", "Files that are the bytes of arrays"),
        Component("DataloaderFunc", f"{module}:DataloaderFunc", "The batches that a function of yours yields"),
        Component("EvaluateFunc", f"{module}:EvaluateFunc", "A function of yours that judges models"),
    ]


@hookimpl
def hfopt_metric_backends() -> list[Component]:
    return [Component("custom", "hfopt_data_containers.custom:Custom", "Figures that functions of yours compute")]
