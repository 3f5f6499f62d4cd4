"""How many observations a check needs for effects that a person can picture: its own rule on a stylised stream.

The stream has exactly the stated rates at every length, so the size is that of a typical release and about the median
of real ones; `windlass bench release` measures the real medians. Nothing here approximates a rule: the functions that
judge are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serving.release import checks
from serving.release.checks import Comparison
from serving.release.counts import ArmCounts, Counts
from serving.release.metrics import METRICS
from serving.release.people import words
from serving.release.people.past import Baseline
from serving.release.release import Check
from serving.release.statistics import tail
from serving.release.statistics.histogram import Histogram

#: Observations beyond which a size is of no use.
MOST = 2_000_000

#: What is taken for the share of failed requests where nobody measured it.
ASSUMED_ERRORS = 0.002


@dataclass(frozen=True)
class Expected:
    """One effect and the candidate's observations until the check has decided.

    Attributes:
        outcome: what it then says.
        observations: None where it takes too many.
    """

    effect: str
    outcome: str
    observations: int | None
    assumes: str = ""


def of_check(check: Check, share: float, alpha: float, baseline: Baseline | None) -> Iterator[Expected]:
    """What to expect of a check that is no reward.

    Args:
        share: of the requests that go to the candidate while it is small, in (0, 1].
        alpha: the check's level for one candidate.
        baseline: the champion's rate, or the spread of paired differences.
    """
    metric = METRICS[check.metric]
    if check.metric == "brier":
        yield from _pairs(check, baseline)
    elif check.relative_to_champion:
        yield from _relative(check, share, alpha, baseline)
    else:
        allowed = metric.slow_share if metric.slow_share is not None else check.bound or 0.0
        what = _what(check)
        for factor in (2, 10):
            if factor * allowed <= 1:
                yield Expected(
                    f"{checks.percent(factor * allowed)} {what} ({factor} times the bound)",
                    "FAIL",
                    _rate(check, factor * allowed, alpha, "FAIL"),
                )
        if metric.slow_share is not None:
            yield Expected(
                f"every answer slower than {check.bound:g} ms", "FAIL", _rate(check, 1, alpha, "FAIL")
            )
        yield Expected(f"no {what} at all", "PASS", _rate(check, 0, alpha, "PASS"))


def smallest(decided: Callable[[int], bool], most: int = MOST) -> int | None:
    """The smallest n at which `decided`, which stays true once it is, is true."""
    high = 1
    while not decided(high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _rate(check: Check, rate: float, alpha: float, outcome: str) -> int | None:
    return smallest(lambda n: checks.judge_rate(check, Counts(n, round(rate * n)), alpha).outcome == outcome)


def _relative(check: Check, share: float, alpha: float, baseline: Baseline | None) -> Iterator[Expected]:
    if share >= 1:
        return
    if METRICS[check.metric].unit == "latency":
        own = check.bound is None
        bound = "1.25 times the champion's own p99" if own else f"{check.bound:g} ms"
        # beyond a quarter more than the p99 lie less than 1 % of the champion's answers, whatever the check allows
        usual = min(checks.excess(check), 0.01) / 2 if own else checks.excess(check) / 2
        source = f"{checks.percent(usual)} of the champion's answers are slower"
        worse = ((0.05 + usual, "5 % more of the answers"), (1.0, "every answer"))
        watched = _watched_tail if own else _watched
        for rate, name in worse:
            yield Expected(
                f"{name} slower than {bound}", "FAIL", watched(check, share, alpha, usual, rate), source
            )
        return
    known = baseline is not None and baseline.mean > 0
    usual = baseline.mean if baseline is not None and known else ASSUMED_ERRORS
    source = baseline.source if baseline is not None and known else "assumed, nobody measured it"
    for factor in (2, 10):
        rate = min(factor * usual, 1.0)
        yield Expected(
            f"{checks.percent(rate)} {METRICS[check.metric].doc} instead of {checks.percent(usual)}",
            "FAIL",
            _watched(check, share, alpha, usual, rate),
            f"champion at {checks.percent(usual)}: {source}",
        )


def _watched(check: Check, share: float, alpha: float, usual: float, rate: float) -> int | None:
    """The candidate's requests until the comparison with the champion fails it, at a look after every few."""
    seen, n = Comparison(), 0
    while n < 100_000:
        n += max(2, n // 50)
        theirs = round(n * (1 - share) / share)
        now = ArmCounts(Counts(n, round(rate * n)), Counts(theirs, round(usual * theirs)))
        seen = checks.compare(check, seen, now)
        forgive = METRICS[check.metric].unit == "latency"
        if checks.judge_comparison(check, seen, now, alpha, forgive_a_spell=forgive).outcome == "FAIL":
            return n
    return None


def _watched_tail(check: Check, share: float, alpha: float, usual: float, rate: float) -> int | None:
    """As `_watched`, where the champion's own answers say what is slow."""
    edges = 100.0, 200.0  # fast answers are below the first, so that a quarter beyond their p99 is the second
    seen, n = tail.Tail(), 0
    while n < 100_000:
        n += max(2, n // 50)
        theirs = round(n * (1 - share) / share)
        slow, late = round(rate * n), round(usual * theirs)
        ours = Histogram(edges, (n - slow, 0, slow))
        champion = Histogram(edges, (theirs - late, 0, late))
        seen = tail.look(seen, ours, champion, checks.excess(check))
        if checks.judge_tail(check, seen, ours, champion, alpha).outcome == "FAIL":
            return n
    return None


def _pairs(check: Check, baseline: Baseline | None) -> Iterator[Expected]:
    if baseline is None or not baseline.deviation:
        yield Expected(
            "the versions are equally good", "PASS", None, "unknown spread of the paired differences"
        )
        return
    spread = baseline.deviation
    source = f"paired differences spread by {spread:.3g}: {baseline.source}"
    margin = check.margin or 0.0
    cases = (
        [("no difference", 0.0, "PASS")] if check.margin else [("better by 10 % of the spread", -0.1, "PASS")]
    )
    cases.append(("worse by the margin and 20 % of the spread", 0.2, "FAIL"))
    for effect, by, outcome in cases:
        mean = by * spread + (margin if outcome == "FAIL" else 0.0)

        def decided(n: int, mean: float = mean, outcome: str = outcome) -> bool:
            values = tuple(mean + (spread if i % 2 else -spread) for i in range(2 * n))
            return checks.judge_pairs(check, values).outcome == outcome

        found = smallest(decided, 40_000)
        yield Expected(effect, outcome, None if found is None else 2 * found, source)


def _what(check: Check) -> str:
    if METRICS[check.metric].unit == "latency":
        return f"answers slower than {check.bound:g} ms"
    return words.METRIC_NOUNS.get(check.metric, METRICS[check.metric].doc)
