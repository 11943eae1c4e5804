"""The `hfopt` command and what a person sees of it."""
