"""The plain request, read without a parser: nearly all requests of nearly all clients are of this kind.

A request is plain when it came in one piece, alone, with a length, and each of its header lines is one that HTTP lets
be read in a single way. Lines repeat from request to request, so what a line means is remembered; whatever is not
plain beyond doubt is left to the parser (`http.HttpProtocol` feeds it then), which knows all of HTTP. A test holds
the two to the same reading.
"""

from __future__ import annotations

import re

LONGEST_HEAD = 8 * 1024
MOST_LINES = 1024
LONGEST_LINE = 512

_FIRST = re.compile(rb"(GET|POST) (/[\x21-\x7e]{0,1023}) HTTP/1\.1")
_HEADER = re.compile(rb"([A-Za-z0-9_-]{1,64}): ?((?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?)")
_LENGTH = re.compile(rb"[0-9]{1,9}")
# these change how a request is framed or what follows it
_FRAMING = frozenset((b"connection", b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer",
                      b"transfer-encoding", b"upgrade", b"http2-settings"))  # fmt: skip

_UNCLEAR = (b"te", b"")

Head = tuple[bytes, bytes, dict[bytes, bytes], int, int]
"""Method, target, the headers that are read (shared, never changed), where the body begins, and its length."""


class PlainRequests:
    """Reads plain requests.

    Args:
        read: names of the headers that are kept, lower case.
        most_headers: lines of a head; the parser's limit, so that both refuse the same.
    """

    def __init__(self, read: frozenset[bytes], most_headers: int) -> None:
        self._read = read
        self._most_lines = 1 + most_headers
        self._firsts: dict[bytes, tuple[bytes, bytes]] = {}
        self._lines: dict[bytes, tuple[bytes, bytes] | None] = {}
        self._heads: dict[bytes, Head] = {}

    def head(self, data: bytes) -> Head | None:
        """The head of the one plain request that `data` is, None where it is anything else."""
        end = data.find(b"\r\n\r\n", 0, LONGEST_HEAD)
        if end < 0:
            return None
        whole = data[:end]
        same = self._heads.get(whole)
        if same is not None:
            return same if len(data) - same[3] == same[4] else None
        lines = whole.split(b"\r\n")
        first = self._firsts.get(lines[0]) or self._learn_first(lines[0])
        if first is None or len(lines) > self._most_lines:
            return None
        known, new = self._lines, False
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            try:
                meant = known[line]
            except KeyError:
                meant, new = self._learn(line), True
            if meant is None:
                continue
            name, value = meant
            if name in headers or name in _FRAMING:
                return None
            headers[name] = value
        begin = end + 4
        length = int(headers.get(b"content-length", 0))
        head = (first[0], first[1], headers, begin, length)
        if not new:  # each of its lines came before, so it may come again, whole
            if len(self._heads) >= MOST_LINES:
                self._heads.clear()
            self._heads[whole] = head
        return head if len(data) - begin == length else None

    def _learn_first(self, line: bytes) -> tuple[bytes, bytes] | None:
        found = _FIRST.fullmatch(line)
        if found is None:
            return None
        if len(self._firsts) >= MOST_LINES:
            self._firsts.clear()
        self._firsts[line] = first = (found[1], found[2])
        return first

    def _learn(self, line: bytes) -> tuple[bytes, bytes] | None:
        """What a header line means: a header that is read, None for one that is not, `_UNCLEAR` for the parser's."""
        found = _HEADER.fullmatch(line)
        if found is None:
            return _UNCLEAR
        name, value = found[1].lower(), found[2]
        meant: tuple[bytes, bytes] | None = (name, value)
        if name == b"connection" and value.lower() == b"keep-alive":
            meant = None  # what HTTP/1.1 does anyway
        elif name in _FRAMING or (name == b"content-length" and _LENGTH.fullmatch(value) is None):
            meant = _UNCLEAR
        elif name not in self._read:
            meant = None
        # lines that differ from request to request (an id, a trace) push the others out now and then, no more
        if len(self._lines) >= MOST_LINES:
            self._lines.clear()
        if len(line) <= LONGEST_LINE:
            self._lines[line] = meant
        return meant
