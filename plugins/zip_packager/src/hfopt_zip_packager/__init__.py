"""Every model of a run, ranked, in one archive."""
