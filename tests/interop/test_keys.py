"""Who holds which key: a machine that backs up needs no secret, and one without the secret reads nothing."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from interop.archives import KEY, PASSPHRASE, SIGNED, Archive
from interop.trees import edit_plain, make_plain

from asyncdup.codecs import Encryption
from asyncdup.errors import CodecError

pytestmark = [pytest.mark.interop, pytest.mark.realtime, pytest.mark.slow]

Make = Callable[..., Archive]

FOR_KEY = replace(SIGNED, words=("--encrypt-key", KEY))
NO_SECRET = Encryption(recipients=(KEY,))
SECRET = Encryption(passphrase=PASSPHRASE, recipients=(KEY,))


@pytest.fixture
def public_only(keyring: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """GNUPGHOME has the public key alone, until the patch is undone."""
    folder = tempfile.mkdtemp(prefix="k")
    exported = subprocess.run(["gpg", "--batch", "--export", KEY], capture_output=True, check=True).stdout
    subprocess.run(["gpg", "--batch", "--quiet", "--homedir", folder, "--import"], input=exported, check=True)
    monkeypatch.setenv("GNUPGHOME", folder)
    try:
        yield monkeypatch
    finally:
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=True, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_backup_needs_no_secret_and_a_restore_does(archive: Make, public_only: pytest.MonkeyPatch) -> None:
    """As long as the local copies are there (format, section 10.1); stock opens the result."""
    made = archive(FOR_KEY)
    make_plain(made.source)
    made.by_us("full", encryption=NO_SECRET)
    edit_plain(made.source)
    made.by_us("incremental", encryption=NO_SECRET)

    with pytest.raises(CodecError) as caught:
        made.read_by_us(encryption=SECRET)
    assert caught.value.exit_code == 31
    assert not any(made.folder.glob("restored-*"))

    public_only.undo()
    made.form = replace(FOR_KEY, options={"encryption": SECRET})
    made.check()


def test_an_increment_without_secret_and_without_cache_is_refused(archive: Make, public_only: pytest.MonkeyPatch) -> None:
    """P19: before anything is written; the object that cannot be opened is named."""
    made = archive(FOR_KEY)
    make_plain(made.source)
    made.by_us("full", encryption=NO_SECRET)
    shutil.rmtree(made.cache["us"])
    edit_plain(made.source)
    before = sorted(made.target.iterdir())

    with pytest.raises(CodecError, match=r"duplicity-full\.20231114T221320Z\.manifest\.gpg"):
        made.by_us("incremental", encryption=NO_SECRET)

    assert sorted(made.target.iterdir()) == before
