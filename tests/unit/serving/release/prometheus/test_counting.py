"""Exact counts out of scrapes, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from serving.release.prometheus.client import NonsenseError, Series
from serving.release.prometheus.counting import Counted, count

OWN = frozenset({"code"})
SINCE = 100.0


def of(target: str, code: str, *values: tuple[float, float]) -> Series:
    return Series({"__name__": "n", "instance": target, "code": code}, tuple(values))


def total(counted: Counted) -> dict[str, int]:
    return {dict(labels)["code"]: number for labels, number in counted.totals.items()}


@pytest.mark.parametrize(
    ("series", "counts"),
    [
        pytest.param([of("a", "200", (95, 50), (110, 57))], {"200": 7}, id="from-the-start-on"),
        pytest.param([of("a", "200", (95, 50), (110, 57), (125, 60))], {"200": 10}, id="scrape-by-scrape"),
        pytest.param([of("a", "200", (90, 50), (95, 52), (110, 57))], {"200": 5}, id="last-before-the-start"),
        pytest.param([of("a", "200", (100, 50), (110, 57))], {"200": 7}, id="at-the-start"),
        pytest.param([of("a", "200", (95, 50))], {"200": 0}, id="nothing-happened"),
        pytest.param([of("a", "200", (95, 50), (110, 57), (125, 4), (140, 6))], {"200": 13}, id="restart"),
        pytest.param([of("a", "200", (95, 50), (110, 50), (125, 0), (140, 6))], {"200": 6}, id="restart-at-zero"),
        pytest.param(
            [of("a", "200", (95, 1000), (110, 20)), of("a", "500", (95, 3), (110, 5))],
            {"200": 20, "500": 5},
            id="restart-hidden-in-a-series",
        ),
        pytest.param(
            [of("a", "200", (95, 50), (110, 57)), of("a", "500", (110, 2))], {"200": 7, "500": 2}, id="first-error"
        ),
        pytest.param(
            [of("a", "200", (95, 50), (110, 57)), of("b", "200", (125, 9), (140, 12))],
            {"200": 19},
            id="new-target-counts-from-zero",
        ),
        pytest.param([of("a", "200", (110, 5000), (125, 5003))], {"200": 3}, id="nobody-listened-before"),
        pytest.param(
            [of("a", "200", (110, 5000), (125, 5003)), of("a", "500", (125, 1))],
            {"200": 3, "500": 1},
            id="nobody-listened-then-an-error",
        ),
        pytest.param(
            [of("a", "200", (95, 50), (110, 57)), of("b", "200", (95, 10), (110, 11))], {"200": 8}, id="two-targets"
        ),
        pytest.param(
            [of("a", "200", (95, 50), (110, 57), (125, 60)), of("a", "500", (95, 9))],
            {"200": 10, "500": 0},
            id="a-series-that-ends-is-no-restart",
        ),
        pytest.param(
            [of("a", "200", (95, 50)), of("a", "500", (110, 2))], {"200": 0, "500": 2}, id="restart-with-other-series"
        ),
        pytest.param([], {}, id="no-series"),
    ],
)  # fmt: skip
def test_counts_are_what_happened_since(series: list[Series], counts: dict[str, int]) -> None:
    """Verify the sum over scrapes, targets and processes."""
    counted, fault = count(Counted(), series, OWN, SINCE)
    assert total(counted) == counts and fault is None


def test_looks_may_overlap_and_split_anywhere() -> None:
    """Verify that however the same scrapes are cut into looks, the counts are those of one look."""
    one = [(90.0, 5), (95.0, 8), (110.0, 9), (125.0, 2), (140.0, 7), (155.0, 7), (170.0, 1)]
    two = [(95.0, 0), (110.0, 3), (125.0, 4), (140.0, 5), (155.0, 9), (170.0, 9)]
    whole, _ = count(Counted(), [of("a", "200", *one), of("b", "200", *two)], OWN, SINCE)
    assert total(whole) == {"200": 9 - 8 + 7 + 1 + 9}
    for cut in (100.0, 112.0, 130.0, 160.0):
        for overlap in (0.0, 20.0, 1000.0):
            counted = Counted()
            for low, high in ((0.0, cut), (cut - overlap, 1000.0)):
                seen = [
                    of(name, "200", *[(at, value) for at, value in samples if low < at <= high])
                    for name, samples in (("a", one), ("b", two))
                ]
                counted, fault = count(counted, seen, OWN, SINCE)
                assert fault is None
                counted = Counted.from_json(counted.to_json())
            assert total(counted) == total(whole), (cut, overlap)


def test_what_is_no_counter_is_named() -> None:
    """Verify that a series which falls while its target goes on is left out, and said to be wrong."""
    series = [of("a", "200", (95, 50), (110, 90)), of("a", "500", (95, 9), (110, 4), (125, 6))]
    counted, fault = count(Counted(), series, OWN, SINCE)
    assert total(counted) == {"200": 40, "500": 2}
    assert fault is not None and '"code": "500"' in fault and "went from 9 to 4" in fault


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.5])
def test_what_is_no_count_is_refused(value: float) -> None:
    """Verify that one impossible sample lets nothing of its answer count."""
    with pytest.raises(NonsenseError, match="which is no count"):
        count(Counted(), [of("a", "200", (95, 1), (110, 2)), of("a", "500", (110, value))], OWN, SINCE)


def test_the_state_is_plain() -> None:
    """Verify that it goes through JSON unchanged."""
    import json

    counted, _ = count(Counted(), [of("a", "200", (95, 50), (110, 57)), of("b", "500", (110, 1))], OWN, SINCE)
    plain: Any = json.loads(json.dumps(counted.to_json()))
    assert Counted.from_json(plain) == counted
