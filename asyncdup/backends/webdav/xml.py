"""WebDAV's answer 207 Multi-Status as a push parser: bytes in, entries out (RFC 4918, section 13). Pure; the input is hostile."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from xml.parsers import expat

from asyncdup.errors import FormatError

# Enough for ``stat`` and ``list``; asking for all properties costs some servers a look into every file.
PROPFIND = (
    b'<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop>'
    b"<D:resourcetype/><D:getcontentlength/><D:getlastmodified/></D:prop></D:propfind>"
)
_DEEPEST = 64  # elements inside each other; an honest answer has 6
_LONGEST = 64 << 10  # characters of one text; an href is the longest

_RESPONSE, _HREF, _PROPSTAT, _STATUS = "DAV: response", "DAV: href", "DAV: propstat", "DAV: status"
_LENGTH, _MODIFIED, _COLLECTION = "DAV: getcontentlength", "DAV: getlastmodified", "DAV: collection"
_TEXTS = (_HREF, _STATUS, _LENGTH, _MODIFIED)  # hold nothing else: of a text in pieces only the last would count


@dataclass(slots=True)
class Entry:
    """One resource. ``href`` as the server wrote it; ``size`` in bytes and ``mtime`` in seconds since the epoch, None where it does not say."""

    href: str = ""
    size: int | None = None
    mtime: float | None = None
    is_folder: bool = False


class MultiStatus:
    """Feed it the answer in pieces of any size. It holds the entries of one piece, and one text of at most 64 Ki characters.

    A document type, which is where entities are declared, is refused: no honest server sends one.
    """

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.buffer_text = True
        self._open: list[str] = []
        self._text = ""
        self._found: list[Entry] = []
        self._entry = Entry()
        self._status = ""
        self._properties: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Entry]:
        """The entries that ``data`` completes. Raises FormatError."""
        return self._parse(data, False)

    def finish(self) -> list[Entry]:
        """The rest, when everything was fed. Raises FormatError if the document is cut."""
        return self._parse(b"", True)

    def _parse(self, data: bytes, last: bool) -> list[Entry]:
        try:
            self._parser.Parse(data, last)
        except (expat.ExpatError, LookupError, ValueError) as exc:  # the latter two: of an encoding that Python does not know, or not take
            raise FormatError(f"no XML: {exc}", offset=self._parser.ErrorByteIndex, where="the server's answer") from exc
        found, self._found = self._found, []
        return found

    def _refuse(self, *_: object) -> None:
        raise self._error("it has a document type")

    def _start(self, tag: str, _: object) -> None:
        if self._open and self._open[-1] in _TEXTS:
            raise self._error("an element inside a text")
        self._open.append(tag)
        if len(self._open) > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} elements inside each other")
        self._text = ""
        if tag == _RESPONSE:
            self._entry, self._status = Entry(), ""
        elif tag == _PROPSTAT:
            self._properties, self._status = {}, ""

    def _characters(self, text: str) -> None:
        self._text += text
        if len(self._text) > _LONGEST:
            raise self._error(f"a text of more than {_LONGEST} characters")

    def _end(self, tag: str) -> None:
        self._open.pop()
        text, self._text = self._text.strip(), ""
        if tag == _STATUS:
            self._status = text
        elif tag == _HREF and self._open[-1:] == [_RESPONSE]:
            self._entry.href = self._entry.href or text
        elif tag in (_LENGTH, _MODIFIED, _COLLECTION):
            self._properties[tag] = text
        elif tag == _PROPSTAT:
            if _is_success(self._status):
                self._take()
            self._status = ""
        elif tag == _RESPONSE and self._entry.href and _is_success(self._status):
            self._found.append(self._entry)

    def _take(self) -> None:
        length = self._properties.get(_LENGTH, "")
        if length.isascii() and length.isdigit():
            self._entry.size = int(length[:19])
        if _MODIFIED in self._properties:
            self._entry.mtime = _seconds(self._properties[_MODIFIED])
        self._entry.is_folder |= _COLLECTION in self._properties

    def _error(self, message: str) -> FormatError:
        return FormatError(message, offset=self._parser.CurrentByteIndex, where="the server's answer")


def _is_success(status: str) -> bool:
    """Of a status line; a server that gives none means success."""
    return not status or status.partition(" ")[2].startswith("2")


def _seconds(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
