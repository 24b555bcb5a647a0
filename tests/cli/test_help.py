from __future__ import annotations

import re

import pytest

from asyncdup.cli.help import command_parts, help_text
from asyncdup.cli.help_topics import TOPICS
from asyncdup.cli.options import ALL, OPTIONS
from asyncdup.errors import UsageError


def test_general_help_names_every_command_and_help_on_options_every_served_option() -> None:
    general, options = help_text(), help_text("options")

    assert [name for name in ALL if not re.search(rf"^  {name}( |$)", general, re.MULTILINE)] == []
    assert [option.name for option in OPTIONS if option.help and f"--{option.name}" not in options] == []


def test_general_help_is_short_and_each_command_in_it_once() -> None:
    names = [name for _, entries in command_parts() for name, _, _ in entries]

    assert len(help_text().splitlines()) <= 100
    assert len(names) == len(set(names)) >= len(ALL)


@pytest.mark.parametrize(
    ("topic", "named"), [("s3", "--s3-region-name"), ("gpg", "--gpg-binary"), ("selection", "**"), ("environment", "NO_COLOR")]
)
def test_options_of_one_backend_and_topics_by_other_names(topic: str, named: str) -> None:
    assert named in help_text(topic)
    assert "--volsize" not in help_text(topic)


def test_help_on_a_command_leaves_out_what_does_not_matter_to_it() -> None:
    text = help_text("st")

    assert text.startswith("usage: asyncdup collection-status [options] URL\n")
    assert "--volsize" not in text
    assert "--archive-dir" in text


@pytest.mark.parametrize("topic", ["", *ALL, "inc", "options", "s3", *TOPICS])
def test_help_fits_a_terminal_of_eighty_columns(topic: str) -> None:
    text = help_text(topic)

    assert text.endswith("\n") and not text.endswith("\n\n")
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_an_unknown_topic_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        help_text("restor")

    assert caught.value.hint == "did you mean restore?"
