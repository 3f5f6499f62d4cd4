"""Volume against earlier weeks, freshness against usual pauses, and when labels come."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from monitoring.analysis import maturity, traffic
from monitoring.collector.reading import StoredWindow
from monitoring.verdict import Verdict

DAY = 86400.0
WEEK = 7 * DAY
END = 20_000 * DAY


def arrivals(*counts: int, seed: int = 1) -> np.ndarray:
    """So many rows in each week, the last one ends at END; nothing comes between midnight and six."""
    draw = np.random.default_rng(seed)
    found = []
    for back, count in enumerate(reversed(counts)):
        at = END - (back + 1) * WEEK + np.floor(draw.random(count) * 7) * DAY
        found.append(at + (6 + 18 * draw.random(count)) * 3600)
        found.append(np.array([END - (back + 1) * WEEK + 6 * 3600.0]))
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        pytest.param((1000, 1010, 990, 1000), "PASS", id="as-ever"),
        pytest.param((1000, 1010, 990, 400), "FAIL", id="fell"),
        pytest.param((1000, 1010, 990, 2000), "FAIL", id="rose"),
        pytest.param((1000, 1010, 990, 0), "FAIL", id="nothing-came"),
        pytest.param((1000, 1010, 990, 800), "PASS", id="less-but-tolerated"),
        pytest.param((100, 1900, 400, 1800), "INCONCLUSIVE", id="weeks-that-differ-anyway"),
        pytest.param((1000, 1000, 1000), "INCONCLUSIVE", id="two-earlier-weeks-are-too-few"),
        pytest.param((), "INCONCLUSIVE", id="no-row-ever"),
    ],
)
def test_volume_is_judged_by_the_same_hours_of_earlier_weeks(
    counts: tuple[int, ...], verdict: Verdict
) -> None:
    at = arrivals(*counts) if counts else np.empty(0)
    found = traffic.volume(at, END - WEEK, END)
    assert found.verdict == verdict
    assert (found.evidence["expected"] is None) == ("earlier weeks of traffic are known" in found.reason)


def test_the_interval_of_volume_holds_for_one_more_week_of_the_same_rhythm() -> None:
    """Verify its level: of weeks that are drawn alike, one in a hundred lies outside."""
    draw = np.random.default_rng(2)
    outside = 0
    for seed in range(300):
        counts = draw.negative_binomial(40, 40 / (40 + 300), 7)
        found = traffic.volume(arrivals(*map(int, counts), seed=seed), END - WEEK, END).evidence
        outside += not found["lower"] <= found["rows"] <= found["upper"]
    assert outside <= 9


@pytest.mark.parametrize(
    ("age", "weeks", "verdict"),
    [
        pytest.param(timedelta(hours=5), 3, "PASS", id="a-night"),
        pytest.param(timedelta(hours=20), 3, "FAIL", id="longer-than-two-nights"),
        pytest.param(timedelta(hours=20), 0, "PASS", id="unknown-pauses-go-by-the-source"),
        pytest.param(timedelta(days=4), 0, "FAIL", id="older-than-the-source-allows"),
    ],
)
def test_freshness_goes_by_the_pauses_that_are_usual(age: timedelta, weeks: int, verdict: Verdict) -> None:
    at = arrivals(*[2000] * weeks) if weeks else np.array([END])
    now = at.max() + age.total_seconds()
    found = traffic.freshness(at, now, timedelta(days=3))
    assert found.verdict == verdict
    assert found.evidence["age_seconds"] == pytest.approx(age.total_seconds())


def test_nothing_ever_logged_is_not_fresh_and_not_stale() -> None:
    found = traffic.freshness(np.empty(0), END, timedelta(days=3))
    assert (found.verdict, found.evidence["age_seconds"]) == ("INCONCLUSIVE", None)


def labelled(at: np.ndarray, delay: np.ndarray, now: float, share: float = 1.0) -> StoredWindow:
    come = (at + delay <= now) & (np.random.default_rng(3).random(len(at)) < share)
    n = len(at)
    none = np.full(n, np.nan)
    return StoredWindow(
        request_ids=tuple(map(str, range(n))),
        at=at,
        scores=np.full(n, 0.5),
        labels=np.where(come, 1.0, np.nan),
        label_at=np.where(come, at + delay, np.nan),
        latency_ms=none,
        features=np.empty((n, 0)),
        versions=np.array(["1"] * n, dtype=object),
        sources=np.array(["online"] * n, dtype=object),
        inputs=(),
        columns={},
    )


def test_labels_that_take_weeks_are_waited_for() -> None:
    """Verify that the measured stretch ends where 95 % of the labels have had their time, and is complete."""
    draw = np.random.default_rng(4)
    at = np.sort(END - draw.random(20_000) * 60 * DAY)
    delay = draw.uniform(1, 20, len(at)) * DAY
    found, rows = maturity.measure(labelled(at, delay, END), end=END, now=END, span=WEEK)
    assert found.delays["0.95"] == pytest.approx(19.05 * DAY, rel=0.02)
    assert found.through == pytest.approx(END - found.delays["0.95"])
    assert rows.at.max() <= found.through
    assert found.coverage == pytest.approx(1.0, abs=0.03)


def test_quick_labels_do_not_make_the_delay_look_short() -> None:
    """Verify that the newest rows, of which only quick labels are known, do not decide how long one takes."""
    draw = np.random.default_rng(5)
    at = np.sort(END - draw.random(20_000) * 60 * DAY)
    slow = np.where(draw.random(len(at)) < 0.5, 1 * DAY, 25 * DAY)
    found, _ = maturity.measure(labelled(at, slow, END), end=END, now=END, span=WEEK)
    assert found.delays["0.95"] == pytest.approx(25 * DAY)


def test_labels_that_stop_show_as_coverage() -> None:
    """Verify a label outage: the delay is still known, the matured rows have no label."""
    at = np.sort(END - np.random.default_rng(6).random(20_000) * 60 * DAY)
    known = labelled(at, np.full(len(at), DAY), END - 20 * DAY)
    found, rows = maturity.measure(known, end=END, now=END, span=WEEK)
    assert (found.coverage, len(rows) > 1000) == (0.0, True)
    assert found.age == pytest.approx(20 * DAY, rel=0.01)


def test_without_labels_nothing_is_known_of_them() -> None:
    at = END - np.arange(5000.0)
    found, rows = maturity.measure(labelled(at, np.zeros(5000), END, share=0.0), end=END, now=END, span=WEEK)
    assert (found.through, found.coverage, found.age, len(rows)) == (None, None, None, 0)


def test_an_old_window_is_measured_by_what_is_known_now() -> None:
    """Verify that rows count as matured by the time of the analysis, where that is long after the window."""
    at = END - np.arange(5000.0)
    delay = np.full(5000, 3 * DAY)
    waiting, _ = maturity.measure(labelled(at, delay, END), end=END, now=END, span=WEEK)
    assert waiting.rows == 0
    known = labelled(at, delay, END + 10 * DAY)
    found, rows = maturity.measure(known, end=END, now=END + 10 * DAY, span=WEEK)
    assert (found.through, found.coverage, len(rows)) == (END, 1.0, 5000)
