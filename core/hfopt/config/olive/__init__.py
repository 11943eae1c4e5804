"""The dialect of Olive's configs: its spellings, and its keys and names that hfopt does not act on."""
