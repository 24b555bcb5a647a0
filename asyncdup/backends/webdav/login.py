"""Who we are to a WebDAV server: Basic and Digest access authentication (RFC 7617, RFC 7616). Pure but for the random ``cnonce``.

Nothing is sent before the server has said what it wants, so that a server with Digest never sees the password.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_TOKEN = re.compile(r"""([A-Za-z][\w!#$%&'*+.^`|~-]*)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]+))?""")
_HASHES = {"SHA-256": "sha256", "MD5": "md5"}  # the better one first


@dataclass(slots=True)
class Challenge:
    """One way to log in that a server offers: the scheme in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


class Login:
    """User and password, and what the server has said of how it wants them.

    Args:
        on_basic: called before the password is first sent as it is.
    """

    def __init__(self, user: str, password: str, on_basic: Callable[[], None] = lambda: None) -> None:
        self._user = user
        self._password = password
        self._on_basic = on_basic
        self._challenge: Challenge | None = None
        self._count = 0  # requests with the present nonce

    def __repr__(self) -> str:
        return f"Login({self._user!r})"

    def header(self, method: str, target: str) -> str | None:
        """The value of ``Authorization`` for a request of ``target`` (path and query as they are sent); None before the first ``learn``."""
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            token = base64.b64encode(f"{self._user}:{self._password}".encode("utf-8", "surrogateescape"))
            return f"Basic {token.decode()}"
        self._count += 1
        return self._digest(self._challenge.parameters, method, target)

    def hide(self, text: str) -> str:
        """``text`` of the server's without the password, which some say back (P15)."""
        token = base64.b64encode(f"{self._user}:{self._password}".encode("utf-8", "surrogateescape")).decode()
        for secret in filter(None, (token, self._password)):
            text = text.replace(secret, "***")
        return text

    def learn(self, offered: Iterable[str], refused: str | None) -> bool:
        """Take in the ``WWW-Authenticate`` headers of an answer 401 to a request with the Authorization ``refused``.

        Returns whether it is worth another try: there is a scheme that we have, and it was not the same that was refused.
        """
        challenge = _best(parse_challenges(offered))
        if challenge is None:
            return False
        if challenge.scheme == "basic":
            if refused is not None and refused.startswith("Basic"):
                return False
            if self._challenge is None or self._challenge.scheme != "basic":
                self._on_basic()
        elif refused is not None and f'nonce="{challenge.parameters.get("nonce", "")}"' in refused:
            return False
        if challenge != self._challenge:
            self._challenge, self._count = challenge, 0
        return True

    def _digest(self, given: dict[str, str], method: str, target: str) -> str:
        algorithm = given.get("algorithm", "MD5")
        name = _HASHES[algorithm.upper().removesuffix("-SESS")]

        def digest(text: str) -> str:
            return hashlib.new(name, text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()

        realm, nonce = given.get("realm", ""), given.get("nonce", "")
        count, cnonce = f"{self._count:08x}", secrets.token_hex(8)
        secret = digest(f"{self._user}:{realm}:{self._password}")
        if algorithm.upper().endswith("-SESS"):
            secret = digest(f"{secret}:{nonce}:{cnonce}")
        request = digest(f"{method}:{target}")
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": target}
        if "qop" in given:
            response = digest(f"{secret}:{nonce}:{count}:{cnonce}:auth:{request}")
        else:  # RFC 2069
            response = digest(f"{secret}:{nonce}:{request}")
        fields["response"] = response
        if "opaque" in given:
            fields["opaque"] = given["opaque"]
        words = [f'{key}="{_escaped(value)}"' for key, value in fields.items()]
        if "algorithm" in given:
            words.append(f"algorithm={algorithm}")
        if "qop" in given:
            words += ["qop=auth", f"nc={count}", f'cnonce="{cnonce}"']
        return f"Digest {', '.join(words)}"


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all ``WWW-Authenticate`` headers; one header may hold several."""
    found: list[Challenge] = []
    for header in headers:
        for match in _TOKEN.finditer(header):
            if match[2] is None:
                found.append(Challenge(match[1].lower()))
            elif found:
                value = match[2]
                found[-1].parameters[match[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
    return found


def _best(challenges: list[Challenge]) -> Challenge | None:
    usable = [challenge for challenge in challenges if _rank(challenge) is not None]
    return min(usable, key=lambda challenge: _rank(challenge) or 0, default=None)


def _rank(challenge: Challenge) -> int | None:
    """Digest before Basic; None for what we have not."""
    if challenge.scheme == "basic":
        return len(_HASHES)
    algorithm = challenge.parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")
    qops = [word.strip().lower() for word in challenge.parameters.get("qop", "auth").split(",")]
    if challenge.scheme != "digest" or algorithm not in _HASHES or "auth" not in qops:
        return None
    return list(_HASHES).index(algorithm)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
