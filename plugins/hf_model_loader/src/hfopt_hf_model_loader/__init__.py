"""Loads Hugging Face models for hfopt."""
