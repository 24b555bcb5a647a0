"""Plain bytes to stored bytes and back: none, gzip, GPG."""

from __future__ import annotations

from pathlib import Path

from asyncdup.codecs.base import Chunks, Codec, Encryption, Sealed, Sealer
from asyncdup.codecs.gpg import GpgCodec
from asyncdup.codecs.gzip import GzipCodec
from asyncdup.codecs.plain import PlainCodec
from asyncdup.errors import CodecError, UsageError

__all__ = ["Chunks", "Codec", "Encryption", "PlainCodec", "Sealed", "Sealer", "codec_for", "make_codec"]


def make_codec(*, encryption: Encryption | None, compression: bool = True, level: int | None = None, tempdir: Path) -> Codec:
    """The codec that writes a new backup set.

    Args:
        encryption: None writes plain or gzip files.
        compression: gzip; with encryption, a compressed packet inside.
        level: 1 to 9 of zlib; None is the fast default (isal's level 1).
        tempdir: where gpg's reports rest while it runs; private to the user.
    """
    if level is not None and not 1 <= level <= 9:
        raise UsageError(f"the compression level {level} is not between 1 and 9")
    if encryption is not None:
        return GpgCodec(encryption, tempdir=tempdir, compression=compression, level=level)
    return GzipCodec(level=level) if compression else PlainCodec()


def codec_for(suffix: str, encryption: Encryption | None, tempdir: Path) -> Codec:
    """The codec that reads files whose names end in ``suffix``; the short ``.g`` and ``.z`` of old archives are known, too.

    Raises:
        CodecError: encrypted in a way that ``encryption`` does not serve, or a suffix that means nothing.
    """
    if suffix in ("", ".gz", ".z"):
        return GzipCodec() if suffix else PlainCodec()
    if suffix in (".gpg", ".g"):
        if encryption is None:
            raise CodecError("the archive is encrypted", hint="set PASSPHRASE, and leave out --no-encryption")
        return GpgCodec(encryption, tempdir=tempdir)
    if suffix == ".p7m":
        raise CodecError(
            "the archive is encrypted with gpgsm (S/MIME), which asyncdup does not read", hint="use duplicity with --use-gpgsm"
        )
    raise CodecError(f"files ending in {suffix!r} are of no known kind")
