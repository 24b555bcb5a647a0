"""``python -m fuzz.coverage_guided PARSER FOLDER [options of libFuzzer]``: atheris looks for inputs that reach new code, and keeps them in FOLDER.

The same checks as in the quick run. A failing input is written to the working folder as ``crash-…``. Needs ``pip install atheris``.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["asyncdup"]):
    from fuzz.mutate import LONGEST
    from fuzz.targets import CORPUS, TARGETS


def main() -> None:
    """Until it is stopped, or by libFuzzer's ``-runs`` or ``-max_total_time``."""
    name, folder, *options = sys.argv[1:]
    target = TARGETS[name]

    def feed(data: bytes) -> None:
        target.read(data)

    atheris.Setup([sys.argv[0], f"-max_len={LONGEST}", *options, folder, str(CORPUS / name)], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
