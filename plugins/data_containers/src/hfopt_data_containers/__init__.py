"""Data and metrics for hfopt from functions of the user's own, raw files, and dummy data."""
