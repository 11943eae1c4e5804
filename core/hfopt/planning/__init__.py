"""The graph of steps that a config asks for, and their keys."""
