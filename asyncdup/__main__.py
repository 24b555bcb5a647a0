"""``python -m asyncdup``."""

import sys

from asyncdup.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
