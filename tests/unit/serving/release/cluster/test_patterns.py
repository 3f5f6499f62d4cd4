"""Patterns against every value that they may meet."""

from __future__ import annotations

import re

import pytest

from serving.release.cluster import patterns
from windlass.errors import UsageError


@pytest.mark.parametrize(
    "ranges",
    [
        pytest.param(((0, 10_000),), id="all"),
        pytest.param(((0, 5_000),), id="half"),
        pytest.param(((5_000, 10_000),), id="other-half"),
        pytest.param(((0, 1),), id="one"),
        pytest.param(((9_999, 10_000),), id="last"),
        pytest.param(((1, 9_999),), id="all-but-both-ends"),
        pytest.param(((123, 4_567), (4_568, 4_569), (7_000, 7_100)), id="several"),
        pytest.param(tuple((n, n + 1) for n in range(0, 10_000, 7)), id="very-many"),
        pytest.param((), id="none"),
    ],
)
def test_buckets_match_exactly_their_ranges(ranges: tuple[tuple[int, int], ...]) -> None:
    """Verify, for each of the 10,000 buckets, that exactly one pattern matches it if it is in a range, else none."""
    found = patterns.buckets(ranges)
    compiled = [re.compile(text) for text in found]
    assert all(len(text) <= patterns.LONGEST for text in found)
    for bucket in range(10_000):
        inside = any(low <= bucket < high for low, high in ranges)
        assert sum(bool(p.search(f"{bucket:04d}")) for p in compiled) == inside, bucket


@pytest.mark.parametrize("value", ["", "123", "12345", "x0001", "0001 ", "-001"])
def test_buckets_match_nothing_else(value: str) -> None:
    """Verify that what is no bucket of four digits belongs to nobody."""
    assert not any(re.search(text, value) for text in patterns.buckets(((0, 10_000),)))


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        pytest.param("group=beta", True, id="alone"),
        pytest.param("a=1; group=beta; z=2", True, id="between"),
        pytest.param("a=1;group=beta", True, id="without-space"),
        pytest.param("group=beta ; z=2", True, id="space-behind"),
        pytest.param("group=beta2", False, id="longer-value"),
        pytest.param("mygroup=beta", False, id="longer-name"),
        pytest.param("a=group=beta", False, id="inside-a-value"),
        pytest.param("group=alpha", False, id="other-value"),
        pytest.param("", False, id="none"),
    ],
)
def test_a_cookie_is_matched_whole(header: str, matches: bool) -> None:
    """Verify that only a cookie of this name and this value counts, wherever it stands."""
    assert bool(re.search(patterns.cookie("group", "beta"), header)) == matches


def test_a_cookie_is_no_pattern() -> None:
    """Verify that signs of regular expressions in a cookie mean themselves."""
    pattern = patterns.cookie("a.b", "x+(y)|z")
    assert re.search(pattern, "a.b=x+(y)|z")
    assert not re.search(pattern, "axb=x+(y)|z")
    assert not re.search(pattern, "a.b=xx(y)")


@pytest.mark.parametrize("value", ["a;b", "a,b", "a b", "ü", ""])
def test_what_is_no_cookie_is_refused(value: str) -> None:
    """Verify that a value which no browser sends is refused, not matched by accident."""
    with pytest.raises(UsageError, match="visible ASCII"):
        patterns.cookie("group", value)
