"""What is kept between runs: artifacts, keys, locks, the journal."""
