"""What the core makes of numbers: figures with intervals, comparisons of models, the machine."""
