"""Optuna's samplers for hfopt's searches."""
