"""Configs as Olive writes them."""
