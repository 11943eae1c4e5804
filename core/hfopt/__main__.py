"""`python -m hfopt`: the same as the `hfopt` command."""

import sys

from hfopt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
