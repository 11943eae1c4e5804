"""What this plugin declares; imports nothing else."""

from __future__ import annotations

from hfopt import Component, hookimpl

_RESOURCES = "hfopt_azureml.resources"


@hookimpl
def hfopt_config_sections() -> list[Component]:
    about = "an Azure Machine Learning workspace, and how to sign in"
    return [Component("azureml_client", "hfopt_azureml.client_config:AzureMLClient", about)]


@hookimpl
def hfopt_packagers() -> list[Component]:
    place, about = "hfopt_azureml.packaging", "of a workspace or registry of Azure ML: a run's best model"
    return [
        Component("AzureMLModels", f"{place}:AzureMLModels", f"a model {about}"),
        Component("AzureMLData", f"{place}:AzureMLData", f"a data asset {about}"),
    ]


@hookimpl
def hfopt_resources() -> list[Component]:
    return [
        Component("azureml", f"{_RESOURCES}:Url", "what an azureml:// URL names"),
        Component("azureml_model", f"{_RESOURCES}:Model", "a model in a workspace of Azure Machine Learning"),
        Component("azureml_registry_model", f"{_RESOURCES}:RegistryModel", "a model in a registry of Azure ML"),
        Component("azureml_datastore", f"{_RESOURCES}:Datastore", "a file or folder in a datastore of a workspace"),
        Component("azureml_job_output", f"{_RESOURCES}:JobOutput", "an output of a job in a workspace, or part of it"),
    ]


@hookimpl
def hfopt_systems() -> list[Component]:
    return [Component("AzureML", "hfopt_azureml.system:AzureML", "command jobs of an Azure ML workspace")]
