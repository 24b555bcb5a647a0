from __future__ import annotations

import pytest

from asyncdup.cli.help import help_text
from asyncdup.cli.options import ALL, OPTIONS
from asyncdup.errors import UsageError


def test_general_help_names_every_command_and_every_served_option() -> None:
    text = help_text()

    assert [name for name in ALL if f"\n  {name} " not in text] == []
    assert [option.name for option in OPTIONS if option.help and f"--{option.name}" not in text] == []


def test_help_on_a_command_leaves_out_what_does_not_matter_to_it() -> None:
    text = help_text("st")

    assert text.startswith("usage: asyncdup collection-status [options] URL\n")
    assert "--volsize" not in text
    assert "--archive-dir" in text


@pytest.mark.parametrize("topic", ["", *ALL, "inc", "urls", "times", "patterns", "passphrases", "signals", "exit-codes"])
def test_help_fits_a_page_of_a_hundred_columns(topic: str) -> None:
    text = help_text(topic)

    assert text.endswith("\n") and not text.endswith("\n\n")
    assert [line for line in text.splitlines() if len(line) > 104] == []


def test_an_unknown_topic_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        help_text("restor")

    assert caught.value.hint == "did you mean restore?"
