"""Guardrails judged against the concurrent champion: how soon they stop what is harmful, how seldom what is not.

Every check's real functions are fed as the engine feeds them: cumulative counts and histograms, at every look.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.release.guardrail_traffic import Answers, Harm, World, look_ends, simulate
from benchmarks.release.parts import Chart, Options, Part, Progress, measurement, spread, target
from serving.release.statistics import arms, betting, ratio, tail
from serving.release.statistics.histogram import Histogram, with_edges

NEEDED = math.log(100)  # alpha 0.01
SLOW_SHARE = 0.01
BOUND_MS = 50.0
REQUESTS = 50_000

#: Of both versions, healthy: rows that differ from the point-in-time features, answers that differ from each other.
SKEW, SKEW_BOUND = 0.005, 0.02
DISAGREEMENT, DISAGREEMENT_BOUND = 0.03, 0.05

CHECKS = ("errors", "p99", "p99 without a bound", "skew", "disagreement")
#: Those whose worst look the engine forgives.
FORGIVING = frozenset({"p99", "p99 without a bound"})
PLAIN = ", nothing forgiven"

WORLDS = (
    World("calm"),
    World("bursts of both", bursts=True),
    World("stalls of both", stalls=True),
    World("bursts, stalls, 5 to 50 %", (0.05, 0.1, 0.25, 0.5), bursts=True, stalls=True),
)
#: Not a target: what one process does by itself is that version's, and how much of it is forgiven is shown.
OWN_STALLS = World("own stalls, alike", own_stalls=True)

HARMS = {
    "errors 0.2 to 2 %": (Harm(errors=0.02), ("errors",), 400),
    "150 ms more on all": (Harm(slower_ms=150, slower_share=1), ("p99", "p99 without a bound"), 20),
    "150 ms more on 5 %": (Harm(slower_ms=150, slower_share=0.05), ("p99", "p99 without a bound"), 300),
}


@dataclass(frozen=True)
class Look:
    """Cumulative, candidate and champion."""

    n: tuple[int, int]
    failed: tuple[int, int]
    slow: tuple[int, int]
    latencies: tuple[Histogram, Histogram]


@dataclass(frozen=True)
class Relative:
    """A relative check's memory, as the engine keeps it."""

    n: tuple[int, int] = (0, 0)
    events: tuple[int, int] = (0, 0)
    guard: arms.Guard = arms.Guard()

    def after(self, n: tuple[int, int], events: tuple[int, int], excess: float) -> Relative:
        batch = arms.Batch(
            n[0] - self.n[0], events[0] - self.events[0], n[1] - self.n[1], events[1] - self.events[1]
        )
        if batch.candidate == 0 or batch.champion == 0:
            return self
        return Relative(n, events, arms.watch(self.guard, batch, excess))


def looks(answers: Answers, ends: np.ndarray) -> Iterator[Look]:
    """What each look sees."""
    edges = with_edges(BOUND_MS)
    place = np.searchsorted(edges, answers.latency_ms)
    look_of = np.searchsorted(ends, np.arange(len(place)), side="right")
    tables = []
    for arm in (answers.candidate, ~answers.candidate):
        shape = (len(ends) + 1, len(edges) + 1)
        flat = np.bincount(look_of[arm] * shape[1] + place[arm], minlength=shape[0] * shape[1])
        tables.append(flat.reshape(shape)[:-1].cumsum(axis=0))
    failed = [
        np.cumsum(answers.failed & arm)[ends - 1].tolist() for arm in (answers.candidate, ~answers.candidate)
    ]
    n = [table.sum(axis=1).tolist() for table in tables]
    slow_from = edges.index(BOUND_MS) + 1
    slow = [table[:, slow_from:].sum(axis=1).tolist() for table in tables]
    for index in range(len(ends)):
        ours, theirs = (Histogram(edges, tuple(table[index].tolist())) for table in tables)
        yield Look(
            (n[0][index], n[1][index]),
            (failed[0][index], failed[1][index]),
            (slow[0][index], slow[1][index]),
            (ours, theirs),
        )


def stops(
    answers: Answers, ends: np.ndarray, checks: tuple[str, ...], forgive: bool = True
) -> dict[str, int]:
    """Check -> the candidate's answers at which it fails for the first time; the others never fail."""
    errors, slow, beyond = Relative(), Relative(), tail.Tail()
    found: dict[str, int] = {}
    for look in looks(answers, ends):
        evidence: dict[str, arms.Guard] = {}
        if "errors" in checks:
            errors = errors.after(look.n, look.failed, 0.0)
            evidence["errors"] = errors.guard
        if "p99" in checks:
            slow = slow.after(look.n, look.slow, SLOW_SHARE)
            evidence["p99"] = slow.guard
        if "p99 without a bound" in checks:
            beyond = tail.look(beyond, *look.latencies, SLOW_SHARE)
            evidence["p99 without a bound"] = beyond.harm
        for check, guard in evidence.items():
            if check in found:
                continue
            if forgive and check in FORGIVING:
                log = arms.log_evidence_beyond_a_spell(guard)
            else:
                log = arms.log_evidence(guard.wealth)
            if log >= NEEDED:
                found.setdefault(check, look.n[0])
        if len(found) == len(checks):
            break
    return found


def rate_stops(events: np.ndarray, bound: float, every: int) -> int | None:
    """Observations at which an absolute bound fails, looking after `every` of them."""
    for n in range(every, len(events) + 1, every):
        sample = betting.of_counts(n, int(events[n - 1]))
        if betting.log_evidence_above(sample, bound, betting.RATE_BETS) >= NEEDED:
            return n
    return None


# --- pieces of work: plain values in, plain values out


def healthy(piece: tuple[Options, World, bool, int, int]) -> list[dict[str, int]]:
    """Of releases with nothing wrong, the checks that stop each."""
    options, world, irregular, first, count = piece
    found = []
    for seed in range(first, first + count):
        rng = options.rng("healthy", world.name, irregular, seed)
        answers = simulate(rng, REQUESTS, world)
        ends = look_ends(rng, REQUESTS, irregular)
        stopped = stops(answers, ends, CHECKS[:3])
        ours = int(answers.candidate.sum())
        for check, n, share, bound in (
            ("skew", ours, SKEW, SKEW_BOUND),
            ("disagreement", REQUESTS, DISAGREEMENT, DISAGREEMENT_BOUND),
        ):
            at = rate_stops(np.cumsum(rng.random(n) < share), bound, 5 if n == ours else 50)
            if at is not None:
                stopped[check] = at
        if world.own_stalls:
            plain = stops(answers, ends, CHECKS[:3], forgive=False)
            stopped |= {check + PLAIN: at for check, at in plain.items()}
        found.append(stopped)
    return found


def harmful(piece: tuple[Options, str, int, int]) -> list[dict[str, int]]:
    """Of releases with this harm, the candidate's answers at which each check stops them."""
    options, name, first, count = piece
    harm, checks, _ = HARMS[name]
    found = []
    for seed in range(first, first + count):
        rng = options.rng("harmful", name, seed)
        answers = simulate(rng, 30_000, World("harm"), harm)
        found.append(stops(answers, look_ends(rng, 30_000, False), checks))
    return found


def disagreeing(piece: tuple[Options, int, int]) -> list[int | None]:
    """Pairs at which 30 % of disagreement are stopped, looking after every 5."""
    options, first, count = piece
    return [
        rate_stops(np.cumsum(options.rng("pairs", seed).random(500) < 0.3), DISAGREEMENT_BOUND, every=5)
        for seed in range(first, first + count)
    ]


def splits(piece: tuple[Options, tuple[float, ...], tuple[float, ...], int, int]) -> list[int | None]:
    """Requests at which the sample-ratio test rejects, at alpha 0.001, looking after every 50."""
    options, shares, actual, first, count = piece
    found: list[int | None] = []
    for seed in range(first, first + count):
        rng = options.rng("split", shares, actual, seed)
        counts = rng.multinomial(50, actual, REQUESTS // 50).cumsum(axis=0).tolist()
        rejected = (
            50 * (index + 1)
            for index, seen in enumerate(counts)
            if ratio.log_evidence(seen, shares) >= math.log(1000)
        )
        found.append(next(rejected, None))
    return found


# --- the part


def measure(options: Options, progress: Progress) -> Part:
    part = Part()
    _harms(part, options, progress)
    _nothing_wrong(part, options, progress)
    _ratio(part, options, progress)
    return part


def _harms(part: Part, options: Options, progress: Progress) -> None:
    count = options.repetitions(400, 20)
    curves = {}
    for name, (_, checks, within) in HARMS.items():
        pieces = [(options, name, first, min(20, count)) for first in range(0, count, 20)]
        stopped = [one for piece in spread(harmful, pieces, options, progress, name) for one in piece]
        for check in checks:
            times = [one.get(check, math.inf) for one in stopped]
            _stopping(part, f"{name}, {check}", times, within, "canary requests")
            curves[f"{name}, {check}"] = _curve(times)
    pieces = [(options, first, 50) for first in range(0, count, 50)]
    found = [one for piece in spread(disagreeing, pieces, options, progress, "pairs") for one in piece]
    times = [math.inf if one is None else one for one in found]
    _stopping(part, "disagreement of 30 %, bound 5 %", times, 40, "pairs")
    curves["disagreement of 30 %"] = _curve(times)
    part.plots["guardrails-power"] = [
        Chart(
            "harm stopped by", "observations of the candidate", "share of releases", curves, "step", log="x"
        )
    ]


def _stopping(part: Part, case: str, times: list[float], within: int, unit: str) -> None:
    for name, share in (("median to a stop", 0.5), ("90th percentile to a stop", 0.9)):
        value = float(np.quantile(times, share, method="inverted_cdf"))
        shown = value if math.isfinite(value) else None
        part.measurements.append(measurement(name, "windlass", shown, unit, case, repetitions=len(times)))
        if share == 0.5:
            part.targets.append(target(f"{case}: median {unit}", value, "<=", within))


def _curve(times: list[float]) -> tuple[list[float], list[float]]:
    ended = sorted(time for time in times if math.isfinite(time))
    return ended, [(place + 1) / len(times) for place in range(len(ended))]


def _nothing_wrong(part: Part, options: Options, progress: Progress) -> None:
    count = options.repetitions(400, 10)
    stopped: dict[str, float] = {}
    for world in (*WORLDS, OWN_STALLS):
        wrong, releases = 0, 0
        for irregular in (False, True):
            case = f"{world.name}, {'irregular looks' if irregular else 'a look every 50'}"
            pieces = [(options, world, irregular, first, min(10, count)) for first in range(0, count, 10)]
            found = [one for piece in spread(healthy, pieces, options, progress, case) for one in piece]
            blamed = {check: sum(check in one for one in found) for check in CHECKS}
            times = sum(any(check in one for check in CHECKS) for one in found)
            stopped[case] = times / len(found)
            wrong, releases = wrong + times, releases + len(found)
            _share(part, "windlass", case, stopped[case], repetitions=len(found), stopped_by=blamed)
            if world is OWN_STALLS:
                plain = sum(any(check.endswith(PLAIN) for check in one) for one in found)
                _share(part, "no spell forgiven", case, plain / len(found))
        if world is not OWN_STALLS:
            name = f"stopped with nothing wrong: {world.name}, both kinds of looks"
            part.targets.append(target(name, wrong / releases, "<=", 0.01))
    title = f"releases stopped with nothing wrong, {REQUESTS} requests, all guardrails"
    series = {"windlass": (list(stopped), list(stopped.values()))}
    part.plots["guardrails-nothing-wrong"] = [Chart(title, "", "share", series, "bar", bound=0.01)]


def _share(part: Part, contender: str, case: str, value: float, **more: Any) -> None:
    found = measurement("stopped with nothing wrong", contender, value, "share of releases", case, **more)
    part.measurements.append(found)


def _ratio(part: Part, options: Options, progress: Progress) -> None:
    count = options.repetitions(1000, 50)
    for case, shares, actual in (
        ("10 : 90 as decided", (0.1, 0.9), (0.1, 0.9)),
        ("10 : 30 : 60 as decided", (0.1, 0.3, 0.6), (0.1, 0.3, 0.6)),
        ("12 : 88 instead of 10 : 90", (0.1, 0.9), (0.12, 0.88)),
    ):
        pieces = [
            (options, shares, actual, first, 50) for first in range(0, count if shares == actual else 200, 50)
        ]
        found = [one for piece in spread(splits, pieces, options, progress, case) for one in piece]
        if shares == actual:
            rejected = sum(one is not None for one in found) / len(found)
            part.measurements.append(
                measurement("sample ratio rejected", "windlass", rejected, "share of releases", case)
            )
            part.targets.append(target(f"sample ratio rejected, {case}", rejected, "<=", 0.001))
        else:
            times = [math.inf if one is None else one for one in found]
            median = float(np.quantile(times, 0.5, method="inverted_cdf"))
            part.measurements.append(
                measurement("sample ratio: median to a rejection", "windlass", median, "requests", case)
            )
