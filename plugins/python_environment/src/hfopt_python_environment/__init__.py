"""The system PythonEnvironment of hfopt: steps run in another Python environment, given or made."""
