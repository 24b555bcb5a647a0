"""``--ssh-options``: what each form means, as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncdup.backends.options import BackendOptions
from asyncdup.backends.registry import open_backend
from asyncdup.backends.sftp.ssh_options import parse_ssh_options
from asyncdup.errors import UsageError


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ((), ()),
        (("-oPort=2222",), (("Port", "2222"),)),
        (("-o Port=2222 -oUser=me",), (("Port", "2222"), ("User", "me"))),
        (("-o", "Port=2222"), (("Port", "2222"),)),
        (("-o 'Port 2222'",), (("Port", "2222"),)),
        (("-o 'Port = 2222'",), (("Port", "2222"),)),
        (("-oIdentityFile='/my backup/id'",), (("IdentityFile", "/my backup/id"),)),
        (("-oIdentityFile=/a -oIdentityFile=/b",), (("IdentityFile", "/a"), ("IdentityFile", "/b"))),
        (("-oProxyCommand='ssh -W %h:%p jump'",), (("ProxyCommand", "ssh -W %h:%p jump"),)),
        (("-oSetEnv=A=B",), (("SetEnv", "A=B"),)),
        (("-i /k -p 1 -P2 -l me -J a,b -c aes128-ctr",), (
            ("IdentityFile", "/k"), ("Port", "1"), ("Port", "2"), ("User", "me"), ("ProxyJump", "a,b"), ("Ciphers", "aes128-ctr"))),
        (("-4 -q -C -v",), (("AddressFamily", "inet"),)),
    ],
)  # fmt: skip
def test_each_form_becomes_a_setting(given: tuple[str, ...], settings: tuple[tuple[str, str], ...]) -> None:
    assert parse_ssh_options(given).settings == settings


@pytest.mark.parametrize(
    ("value", "policy"), [("yes", "yes"), ("ask", "yes"), ("accept-new", "accept-new"), ("no", "no"), ("off", "no"), ("NO", "no")]
)
def test_host_key_checking_is_never_a_question(value: str, policy: str) -> None:
    """P14: what would ask a person refuses."""
    options = parse_ssh_options([f"-oStrictHostKeyChecking={value}"])

    assert (options.host_keys, options.settings) == (policy, ())


def test_the_first_of_two_counts_as_in_ssh() -> None:
    assert parse_ssh_options(["-oStrictHostKeyChecking=yes -oStrictHostKeyChecking=no"]).host_keys == "yes"


def test_a_configuration_file_can_be_named_or_switched_off() -> None:
    assert parse_ssh_options(["-F /etc/my"]).config_file == Path("/etc/my")
    assert parse_ssh_options(["-F none"]).config_file == Path()
    assert parse_ssh_options([]).config_file is None


@pytest.mark.parametrize(
    "given",
    ["-z", "word", "-o", "-oPort", "-o=5", "-oPort=", "-i", "-oStrictHostKeyChecking=perhaps", "-oHost=x", "-oPort='1\n2'", "-o 'x"],
)
def test_nonsense_is_refused_before_anything_is_dialled(given: str) -> None:
    with pytest.raises(UsageError):
        parse_ssh_options([given])


@pytest.mark.parametrize(("url", "options"), [("sftp:///folder", ()), ("sftp://host/folder", ("-z",))])
def test_a_backend_that_cannot_be_is_refused_at_once(url: str, options: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        open_backend(url, BackendOptions(ssh_options=options))
