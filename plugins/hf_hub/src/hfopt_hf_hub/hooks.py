"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl


@hookimpl
def hfopt_resources() -> list[Component]:
    return [
        Component("hf_model", "hfopt_hf_hub.model:HfModel", "A model of the Hugging Face hub, or its tokenizer"),
        Component("hf_space", "hfopt_hf_hub.space:HfSpace", "A space's code, such as a metric of evaluate"),
    ]


@hookimpl
def hfopt_commands() -> list[Component]:
    about = "say what is installed here, what is not in order, and who is logged in to the hub"
    return [Component("doctor", "hfopt_hf_hub.doctor:DoctorCommand", about)]
