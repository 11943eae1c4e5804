"""What everything else stands on: errors, words, processes, files. Imports nothing of hfopt."""
