"""Which unit (user) belongs to which version of an experiment: a hash into 10,000 buckets, and the moves of buckets.

A bucket belongs to one version, so a unit stays where it is while its bucket does; a change of weights moves as few
buckets as it can. The hash is MurmurHash3 (x86, 32 bits; Austin Appleby, 2011, public domain description in SMHasher),
chosen because every bit of a short key reaches every bit of the result, and because LuaJIT computes it exactly with
doubles: `envoy_lua.py` holds the same function for the proxy. It is no secret: who knows the salt can find out the
bucket and the pseudonym of a unit by trying units.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from serving.release.traffic import BUCKETS, Ranges
from windlass.errors import UsageError

#: Buckets of one percent.
PERCENT = BUCKETS // 100

_MASK = 0xFFFFFFFF
#: Seeds under which the salt becomes the two seeds of its units.
_PURPOSES = (0, 0x68BC21EB)


def murmur3(data: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32 of `data`: 0 <= hash < 2**32."""
    h = seed & _MASK
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * 0xCC9E2D51 & _MASK
        h ^= ((k << 15 | k >> 17) & _MASK) * 0x1B873593 & _MASK
        h = (h << 13 | h >> 19) & _MASK
        h = h * 5 + 0xE6546B64 & _MASK
    if whole < len(data):
        k = int.from_bytes(data[whole:], "little") * 0xCC9E2D51 & _MASK
        h ^= ((k << 15 | k >> 17) & _MASK) * 0x1B873593 & _MASK
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & _MASK
    h = (h ^ h >> 13) * 0xC2B2AE35 & _MASK
    return h ^ h >> 16


def seeds(salt: str) -> tuple[int, int]:
    """Seeds under which a unit is hashed: the first hash gives the bucket, both together the pseudonym."""
    first, second = (murmur3(salt.encode(), purpose) for purpose in _PURPOSES)
    return first, second


def bucket(salt: str, unit: str | bytes) -> int:
    """The bucket of a unit, 0 <= bucket < 10,000. Text is hashed as UTF-8, which is what travels in a header."""
    return murmur3(_bytes(unit), seeds(salt)[0]) % BUCKETS


def pseudonym(salt: str, unit: str | bytes) -> str:
    """What logs call the unit: 64 bits in hexadecimal. Another experiment (another salt) calls it otherwise."""
    first, second = seeds(salt)
    data = _bytes(unit)
    return f"{murmur3(data, first):08x}{murmur3(data, second):08x}"


# --- who owns which bucket


def initial(weights: Mapping[str, int]) -> dict[str, Ranges]:
    """Buckets of a new experiment: one range a version, in the order of `weights` (percents that sum to 100).

    Raises:
        UsageError: weights that are not percents, or do not sum to 100.
    """
    _require_percents(weights)
    found: dict[str, Ranges] = {}
    low = 0
    for version, weight in weights.items():
        if weight:
            found[version] = ((low, low + weight * PERCENT),)
            low += weight * PERCENT
    return found


def move(buckets: Mapping[str, Ranges], weights: Mapping[str, int]) -> dict[str, Ranges]:
    """The buckets after a change of weights: as few move as can.

    A version whose weight falls from a to b loses exactly 100 * (a - b) buckets and gets none; one that rises gets
    exactly what it lacks and loses none; others keep theirs. The result follows from the arguments alone. Of the
    moves that do this, those are preferred that shift a border or give away a whole range, so that ranges stay few.

    Args:
        buckets: version -> its buckets; together all 10,000, each once.
        weights: version -> percent, summing to 100.

    Raises:
        UsageError: weights that do not sum to 100, or buckets that are not 10,000, each once.
    """
    _require_percents(weights)
    require_partition(buckets)
    line = _line(buckets)
    gain = {version: weights.get(version, 0) * PERCENT for version in (*buckets, *weights)}
    for low, high, version in line:
        gain[version] -= high - low
    while any(gain.values()):
        line = _step(line, gain)
    return _by_version(line, weights)


def size(ranges: Ranges) -> int:
    """Number of buckets."""
    return sum(high - low for low, high in ranges)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same buckets in as few ranges as can be, ascending."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if low >= high:
            continue
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def require_partition(buckets: Mapping[str, Ranges]) -> None:
    """Raise UsageError unless every bucket belongs to one version."""
    at = 0
    for low, high, version in sorted((low, high, v) for v, ranges in buckets.items() for low, high in ranges):
        if low != at or high <= low:
            wrong = f"[{low}, {high}) of version {version}"
            raise UsageError(
                f"buckets {wrong} do not begin where the ones before end ({at}); give each of 0..{BUCKETS - 1} once"
            )
        at = high
    if at != BUCKETS:
        raise UsageError(
            f"buckets from {at} on belong to nobody; give each of 0..{BUCKETS - 1} to one version"
        )


def pattern(low: int, high: int) -> str:
    """A regular expression (RE2) that matches the four digits of the buckets low <= bucket < high and nothing else.

    For routers that compare headers with texts only (Gateway API); Envoy itself compares numbers.
    """
    return "|".join(_patterns(f"{low:04d}", f"{high - 1:04d}"))


# --- helpers

_Line = list[tuple[int, int, str]]


def _bytes(unit: str | bytes) -> bytes:
    return unit if isinstance(unit, bytes) else unit.encode()


def _require_percents(weights: Mapping[str, int]) -> None:
    if (
        any(weight < 0 or weight != int(weight) for weight in weights.values())
        or sum(weights.values()) != 100
    ):
        raise UsageError(f"weights {dict(weights)} must be whole percents that sum to 100")


def _line(buckets: Mapping[str, Ranges]) -> _Line:
    """All ranges in ascending order; neighbours belong to different versions."""
    line: _Line = []
    for low, high, version in sorted((low, high, v) for v, ranges in buckets.items() for low, high in ranges):
        _append(line, low, high, version)
    return line


def _append(line: _Line, low: int, high: int, version: str) -> None:
    if low >= high:
        return
    if line and line[-1][2] == version:
        low = line.pop()[0]
    line.append((low, high, version))


def _step(line: _Line, gain: dict[str, int]) -> _Line:
    """Move one piece from a version that has too much to one that lacks some; `gain` follows."""
    index, upper, to = _choose(line, gain)
    low, high, giver = line[index]
    moved = min(high - low, -gain[giver], gain[to])
    gain[giver] += moved
    gain[to] -= moved
    after: _Line = []
    for number, piece in enumerate(line):
        if number != index:
            _append(after, *piece)
        elif upper:
            _append(after, low, high - moved, giver)
            _append(after, high - moved, high, to)
        else:
            _append(after, low, low + moved, to)
            _append(after, low + moved, high, giver)
    return after


def _choose(line: _Line, gain: Mapping[str, int]) -> tuple[int, bool, str]:
    """Index of the range to take from, whether from its upper end, and who gets it: the smallest range that borders
    on one who lacks some; where none does, the smallest range at all, for who lacks most."""
    borders: list[tuple[int, int, bool, str]] = []
    apart: list[tuple[int, int]] = []
    for index, (low, high, version) in enumerate(line):
        if gain[version] >= 0:
            continue
        apart.append((high - low, index))
        for upper, neighbour in ((False, index - 1), (True, index + 1)):
            if 0 <= neighbour < len(line) and gain[line[neighbour][2]] > 0:
                borders.append((high - low, index, upper, line[neighbour][2]))
    if borders:
        _, index, upper, to = min(borders)
        return index, upper, to
    _, index = min(apart)
    to = min((version for version in gain if gain[version] > 0), key=lambda v: (-gain[v], v))
    return index, True, to


def _by_version(line: _Line, weights: Mapping[str, int]) -> dict[str, Ranges]:
    owned: dict[str, list[tuple[int, int]]] = {version: [] for version, weight in weights.items() if weight}
    for low, high, version in line:
        owned[version].append((low, high))
    return {version: tuple(ranges) for version, ranges in owned.items()}


def _patterns(low: str, high: str) -> list[str]:
    """Expressions for the numbers from `low` to `high`, both included and of the same number of digits."""
    if low == high:
        return [low]
    rest = len(low) - 1
    if low[0] == high[0]:
        return [re.escape(low[0]) + tail for tail in _patterns(low[1:], high[1:])]
    if rest == 0:
        return [f"[{low}-{high}]"]
    found: list[str] = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        found += [low[0] + tail for tail in _patterns(low[1:], "9" * rest)]
        first += 1
    ending: list[str] = []
    if high[1:] != "9" * rest:
        ending = [high[0] + tail for tail in _patterns("0" * rest, high[1:])]
        last -= 1
    if first <= last:
        digit = str(first) if first == last else f"[{first}-{last}]"
        found.append(digit + "[0-9]" * rest)
    return found + ending
