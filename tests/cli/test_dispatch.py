"""What was typed reaches the commands."""

from __future__ import annotations

from asyncdup.cli.dispatch import options_of
from asyncdup.cli.parser import parse
from asyncdup.cli.passphrases import Secrets


def test_g8_n3_the_options_for_the_operator_reach_the_command() -> None:
    words = ["--retry-failure-mode=intervention", "--intervention-timeout=1h", "--on-intervention=notify 'the operator'"]

    options = options_of(parse(["src", "file:///there", *words]), Secrets())

    assert (options.retry.mode, options.intervention_timeout) == ("intervention", 3600.0)
    assert options.on_intervention == ("notify", "the operator")


def test_g8_without_them_a_wait_has_no_end_and_calls_nobody() -> None:
    options = options_of(parse(["src", "file:///there"]), Secrets())

    assert (options.intervention_timeout, options.on_intervention) == (0.0, ())
