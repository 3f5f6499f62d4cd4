"""Regular expressions for what a route can compare only so: one cookie among others, and ranges of buckets.

They hold for RE2 (Envoy's) and are anchored, since the Gateway API leaves open whether a match is of the whole value.
"""

from __future__ import annotations

import re

from serving.release.traffic import Ranges
from windlass.errors import UsageError

#: The longest value of a header match that the Gateway API takes.
LONGEST = 4096

_DIGITS = 4


def cookie(name: str, value: str) -> str:
    """The whole Cookie header, where the cookie `name` has exactly `value`.

    Raises:
        UsageError: they cannot stand in a Cookie header.
    """
    for text in (name, value):
        if not re.fullmatch(r"[!-~]+", text) or ";" in text or "," in text:
            raise UsageError(
                f"cookie {name}={value}: a cookie holds visible ASCII without comma and semicolon"
            )
    return rf"^(.*;\s*)?{_literal(name)}={_literal(value)}(\s*;.*)?$"


def buckets(ranges: Ranges) -> tuple[str, ...]:
    """Patterns of which one matches a bucket, written with four digits, exactly if it lies in `ranges`."""
    alternatives = [text for low, high in ranges for text in _between(low, high)]
    patterns: list[str] = []
    group: list[str] = []
    for text in alternatives:
        if group and sum(map(len, group)) + len(group) + len(text) + 4 > LONGEST:
            patterns.append(f"^({'|'.join(group)})$")
            group = []
        group.append(text)
    return (*patterns, f"^({'|'.join(group)})$") if group else ()


def _between(low: int, high: int) -> list[str]:
    """Alternatives for low <= n < high: blocks of a power of ten, neighbours with the same digits before merged."""
    found: list[str] = []
    while low < high:
        places = 0
        while places < _DIGITS - 1 and low % 10 ** (places + 1) == 0 and low + 10 ** (places + 1) <= high:
            places += 1
        block = 10**places
        first = low // block % 10
        count = min(10 - first, (high - low) // block)
        before = f"{low:0{_DIGITS}d}"[: _DIGITS - places - 1]
        digit = str(first) if count == 1 else f"[{first}-{first + count - 1}]"
        rest = f"[0-9]{{{places}}}" if places else ""
        found.append(before + digit + rest)
        low += count * block
    return found


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else f"\\{c}" for c in text)
