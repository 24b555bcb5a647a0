"""Whether a server has stored the bytes that it was sent: by the checksum that it repeats, else by its ETag, which is an MD5 as a rule.

Observed: Amazon and SeaweedFS check ``x-amz-checksum-…`` and repeat it; moto and localbucket take no notice and answer with the MD5. Some
servers' ETags are no MD5, as those of objects encrypted with a key service, which is learned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_CHECKSUM = "x-amz-checksum-"
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_TRIALS = 2  # ETags that were no MD5, before the first that was, after which the server is taken to have other ones


class Proof:
    """What is known of one server. Changed only in ``problem``."""

    def __init__(self) -> None:
        self._repeats = False
        self._right = self._wrong = 0  # ETags that were the MD5 of what was sent, and that were not

    def needs_md5(self, sent: Mapping[str, str]) -> bool:
        """Whether the MD5 of a body is worth taking, with ``sent`` as its headers."""
        if self._repeats and _checksum(sent) is not None:
            return False
        return self._right > 0 or self._wrong < _TRIALS

    def problem(self, sent: Mapping[str, str], answer: Mapping[str, str], md5: str | None) -> str | None:
        """What the headers of an answer to a put say against it; None: nothing. ``md5``: of what was sent, in hex; None: not taken."""
        name = _checksum(sent)
        if name is not None and name in answer:
            self._repeats = True
            return None if answer[name] == sent[name] else f"the server has another {name}"
        etag = _MD5.fullmatch(answer.get("ETag", ""))
        if md5 is None or etag is None or answer.get("x-amz-server-side-encryption", "AES256") != "AES256":
            return None
        if etag[1] == md5:
            self._right += 1
            return None
        self._wrong += 1
        return "the server's ETag is not the MD5 of what was sent" if self.needs_md5({}) else None


def _checksum(headers: Mapping[str, str]) -> str | None:
    return next((name for name in headers if name.startswith(_CHECKSUM) and not name.endswith(("-algorithm", "-mode"))), None)
