"""Figures with their intervals, comparisons of models, and the machine that they are measured on."""
