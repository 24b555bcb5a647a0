"""Every parser of what comes from outside, fed with inputs that are nearly right (M5, P3, P4, P7, P9).

What is accepted equals what a strict reference of another make reads, anything else is refused with an error of ours; nothing hangs, crashes
or takes more memory than its input allows. ``ASYNCDUP_FUZZ=N`` sets the inputs for each parser, ``ASYNCDUP_SEED=N`` makes others;
``nox -s fuzz`` looks for inputs that reach new code. A failing input is written beside the corpus: see ``corpus/README.md``.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
from pathlib import Path

import pytest
from fuzz.mutate import LONGEST, Mutator
from fuzz.targets import CORPUS, CPU, TARGETS, Target, hang_is_an_error, seed, within_bounds

INPUTS = int(os.environ.get("ASYNCDUP_FUZZ", "20000"))
MEASURED = 200  # one in so many has its memory and its calls counted, which takes ten times as long


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_read_right(name: str) -> None:
    """Valid inputs are accepted; what was found wrong once stays right."""
    inputs = TARGETS[name].corpus()

    accepted = {file: within_bounds(TARGETS[name], data) for file, data in inputs.items()}

    assert len(accepted) >= 3
    assert all(accepted[file] for file in inputs if file.startswith("valid")), accepted


@pytest.mark.slow
@pytest.mark.timeout(max(300, INPUTS / 50))
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_nearly_right_is_read_right_or_refused(name: str) -> None:
    target = TARGETS[name]
    mutate = Mutator(random.Random(f"{seed()} {name}"), list(target.corpus().values()), target.words, target.mend)
    accepted = refused = 0

    with hang_is_an_error():
        while accepted + refused < INPUTS:
            if fed(target, mutate(), measured=(accepted + refused) % MEASURED == 0):
                accepted += 1
            else:
                refused += 1

    assert accepted + refused == INPUTS
    assert min(accepted, refused) > INPUTS / 200, f"{accepted} accepted, {refused} refused: these inputs say little"


def fed(target: Target, data: bytes, *, measured: bool) -> bool:
    """Whether it was accepted. An input that something is wrong with is kept, and the error says where."""
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU * (20 if measured else 1))
    try:
        return within_bounds(target, data) if measured else target.read(data)
    except Exception as error:
        kept = kept_input(target, data)
        error.add_note(f"the input is {kept}; once it is understood, save it as {CORPUS / target.name / 'was-WHAT-IT-SHOWED'}")
        raise


def kept_input(target: Target, data: bytes) -> Path:
    """In a file that stays when the test has ended."""
    with tempfile.NamedTemporaryFile(prefix=f"asyncdup-fuzz-{target.name}-", delete=False) as file:
        file.write(data)
    return Path(file.name)


def test_the_corpus_is_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < 300 << 10
    assert all(path.stat().st_size <= LONGEST for path in files)
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} == TARGETS.keys()
