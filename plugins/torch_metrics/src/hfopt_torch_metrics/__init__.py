"""Metrics for hfopt under the names and with the options of torchmetrics."""
