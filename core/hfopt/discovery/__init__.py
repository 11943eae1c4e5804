"""Which plugins and distributions there are, and whether they are sound."""
