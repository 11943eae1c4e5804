"""From a file to a run config in which every name is resolved."""
