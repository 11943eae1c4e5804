"""Hugging Face's metrics for hfopt, with per-row outcomes."""
