"""Models and data from Azure Machine Learning."""
