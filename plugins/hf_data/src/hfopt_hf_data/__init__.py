"""Hugging Face datasets for hfopt: loaded and tokenised once, read batch by batch."""
