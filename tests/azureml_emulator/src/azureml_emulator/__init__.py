"""What Azure Machine Learning does for its SDK, on loopback: for tests and for work without a subscription."""

from azureml_emulator.azurite import NotInstalled
from azureml_emulator.emulator import VAULT, Emulator
from azureml_emulator.faults import Fault
from azureml_emulator.places import GROUP, SUBSCRIPTION, WORKSPACE, Place
from azureml_emulator.server import Request

__all__ = ["GROUP", "SUBSCRIPTION", "VAULT", "WORKSPACE", "Emulator", "Fault", "NotInstalled", "Place", "Request"]
