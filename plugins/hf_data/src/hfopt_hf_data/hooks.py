"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_data_containers() -> list[Component]:
    return [
        Component(
            "HuggingfaceContainer",
            "hfopt_hf_data.container:HuggingfaceContainer",
            "A Hugging Face dataset, tokenised once",
        )
    ]


@hookimpl
def hfopt_resources() -> list[Component]:
    return [Component("hf_dataset", "hfopt_hf_data.dataset:HfDataset", "Some splits of a dataset on the hub")]
