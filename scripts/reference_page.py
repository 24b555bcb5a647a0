"""docs/reference.md: every command and option, from the program's own table.

usage: python scripts/reference_page.py > docs/reference.md
"""

from __future__ import annotations

import sys

from asyncdup.cli.manual import reference

if __name__ == "__main__":
    sys.stdout.write(reference())
