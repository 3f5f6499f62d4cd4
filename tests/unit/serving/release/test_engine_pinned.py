"""The rules decide, and the statistics come out, as they did: a journal's figures must come again in a year.

The expected figures are in `testdata/pinned/`. Who means to change one (which changes what journals replay, so it asks
for new rules in `state.py` once those are released) runs this file as a module, which writes them anew, and says why
in the commit.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from serving.release import spec
from serving.release.simulation import crashes
from serving.release.simulation.world import Behaviour, worse
from serving.release.statistics import (
    arms,
    asymptotic,
    betting,
    comparison,
    covariate,
    mixture,
    multiplicity,
    novelty,
    planning,
    proportions,
    quantiles,
    ratio,
    tail,
)
from serving.release.statistics.bernstein import EmpiricalBernstein
from serving.release.statistics.design import START, Design
from serving.release.statistics.histogram import Histogram
from serving.release.statistics.moments import Moments

FOLDER = Path(__file__).parent / "testdata" / "pinned"

DESIGNS = {
    "planned": Design("binary", "increase", 0.05, 0.2),
    "a cost": Design("binary", "decrease", 0.05, 0.3),
    "no plan": Design("binary", "increase", 0.01, None),
    "margin": Design("binary", "increase", 0.05, None, margin=0.3),
    "margin of a cost": Design("binary", "decrease", 0.02, 0.2, margin=0.5),
    "continuous": Design("continuous", "increase", 0.05, 0.1, min_samples=50),
    "continuous, margin": Design("continuous", "decrease", 0.05, 0.1, margin=0.2, min_samples=50),
    "continuous, no plan": Design("continuous", "decrease", 0.05, None, min_samples=50),
    "ratio": Design("ratio", "increase", 0.05, 0.1, min_samples=50),
    "covariate": Design("continuous", "increase", 0.05, 0.1, min_samples=50, covariate=True),
    "ratio, covariate": Design("ratio", "increase", 0.05, 0.1, min_samples=50, covariate=True),
    "binary, covariate": Design("binary", "increase", 0.05, 0.2, covariate=True),
}


def sample(kind, shift, n, seed):
    """Moments of `n` observations of one arm, in four looks."""
    rng = np.random.default_rng(seed)
    looks = []
    for size in (n // 10, n // 5, n // 2, n):
        x = rng.normal(2.0, 0.7, size)
        if kind == "binary":
            y = (rng.random(size) < 0.2 * (1 + shift)).astype(float)
        else:
            y = x + rng.normal(3.0 * (1 + shift), 1.5, size)
        z = rng.integers(1, 5, size).astype(float)
        looks.append(Moments.of(y.tolist(), z.tolist() if kind == "ratio" else None, x.tolist()))
    total = Moments()
    for look in looks:
        total += look
        yield total


def comparisons():
    found = {}
    for name, design in DESIGNS.items():
        for shift, sizes in ((0.25, (600, 600)), (-0.2, (300, 900))):
            evidence = START
            both = zip(
                sample(design.kind, shift, sizes[0], 1), sample(design.kind, 0.0, sizes[1], 2), strict=True
            )
            for look, (ours, theirs) in enumerate(both):
                evidence = comparison.add(design, evidence, ours, theirs)
                found[f"{name}, {shift:+}, look {look}"] = asdict(comparison.result(design, evidence))
    return found


def betting_figures():
    found = {}
    for n, events in ((1, 1), (20, 0), (40, 7), (900, 12), (5000, 700)):
        counts = betting.of_counts(n, events)
        for bound in (0.01, 0.15):
            found[f"{events} of {n} above {bound}"] = betting.log_evidence_above(
                counts, bound, betting.RATE_BETS
            )
            found[f"{events} of {n} below {bound}"] = betting.log_evidence_below(
                counts, bound, betting.RATE_BETS
            )
        for alpha in (0.05, 0.001):
            found[f"{events} of {n}, bounds {alpha}"] = betting.bounds(counts, alpha, betting.RATE_BETS)
    values = np.random.default_rng(3).normal(-0.05, 0.2, 300).clip(-1, 1).tolist()
    for n in (5, 60, 300):
        found[f"bounds of {n} values"] = betting.bounds(
            betting.of_values(values[:n], -1, 1), 0.05, betting.PAIR_BETS
        )
        found[f"asymptotic bounds of {n}"] = asymptotic.bounds(values[:n], 0.05)
        found[f"boundary at {n}"] = asymptotic.boundary(n, 0.01)
        squares = EmpiricalBernstein(0.05).extend([value**2 for value in values[:n]])
        found[f"bernstein of {n}"] = squares.interval
    return found


def arm_figures():
    found, guard, safety = {}, arms.Guard(), arms.START
    for look, batch in enumerate([(30, 2, 300, 3), (45, 0, 280, 9), (31, 12, 290, 2), (300, 20, 60, 5)]):
        batch = arms.Batch(*batch)
        guard, safety = arms.watch(guard, batch, 0.01), arms.add(safety, batch.swapped(), -0.01)
        found[f"guard, look {look}"] = [
            *guard.wealth, *guard.spell, *safety, arms.log_evidence(safety), arms.log_evidence_beyond_a_spell(guard),
        ]  # fmt: skip
    found["rebalanced"] = arms.rebalanced(guard).wealth
    rng, ours, theirs, kept = np.random.default_rng(4), Histogram.empty(), Histogram.empty(), tail.Tail()
    for look in range(6):
        ours = ours.plus(rng.lognormal(3.0 + 0.1 * look, 0.5, 40).tolist())
        theirs = theirs.plus(rng.lognormal(3.0, 0.5, 15 if look == 0 else 120).tolist())
        kept = tail.look(kept, ours, theirs, 0.01)
        found[f"tail, look {look}"] = asdict(kept)
        for q in (0.5, 0.99):
            found[f"quantile {q}, look {look}"] = [
                *quantiles.interval(ours, q, 0.05),
                *quantiles.difference(ours, theirs, q, 0.05),
                *quantiles.ranks(theirs.n, q, 0.01),
                quantiles.threshold(theirs, q, 100),
            ]
    for counts, shares in (
        ((52, 48), (0.5, 0.5)),
        ((130, 48), (0.5, 0.5)),
        ((30, 270, 3), (0.1, 0.9, 0.0)),
        ((30, 270, 90), (0.1, 0.8, 0.1)),
        ((40, 200, 60), (0.2, 0.8, 0.0)),
    ):
        found[f"ratio of {counts}"] = ratio.log_evidence(counts, shares)
    return found


def other_figures():
    found = {}
    traffics = {
        "binary": planning.Traffic(0.05, per_second=3.0),
        "uneven": planning.Traffic(0.2, shares=(0.1, 0.9)),
        "continuous": planning.Traffic(10.0, 4.0, explained=0.3, per_second=0.5),
    }
    for name, design in DESIGNS.items():
        for kind, traffic in traffics.items():
            if (design.kind == "binary") == (kind != "continuous") and design.planned is not None:
                found[f"plan of {name}, {kind}"] = asdict(planning.plan(design, traffic))
                found[f"size for a lift of {name}, {kind}"] = asdict(
                    planning.fixed_size(design, traffic, 0.9, 0.35)
                )
    for name in ("planned", "continuous", "ratio", "covariate"):
        design = DESIGNS[name]
        ours, theirs = list(sample(design.kind, 0.3, 400, 5)), list(sample(design.kind, 0.0, 400, 6))
        later = [(b - a, d - c) for a, b, c, d in zip(ours, ours[1:], theirs, theirs[1:], strict=False)]
        found[f"novelty of {name}"] = asdict(novelty.check(design, later))
        found[f"novelty of {name}, turned"] = asdict(
            novelty.check(design, [(b, a) for a, b in reversed(later)])
        )
        for share in (0.0, 0.8):
            moments = (ours[-1], theirs[-1], share)
            found[f"covariate of {name}, {share}"] = [
                float(covariate.coefficient(*moments)),
                float(covariate.reduction(*moments)),
            ]
    for name, bets in (("planned", mixture.PLANNED), ("broad", mixture.BROAD)):
        for information in (10.0, 400.0):
            found[f"mixture {name}, {information}"] = [
                float(mixture.log_evidence(1.5 * math.sqrt(information), information, 0.1, bets)),
                mixture.boundary(information, 0.1, 3.0, bets),
            ]
    values = [0.4, 90.0, 3.0, 41.0, 700.0, 22.0, 0.0]
    for alpha in (0.05, 0.2):
        found[f"multiplicity {alpha}"] = [
            multiplicity.e_bonferroni(values, alpha),
            multiplicity.e_holm(values, alpha),
            multiplicity.e_bh(values, alpha),
        ]
    found["either"] = multiplicity.either(2.0, -1.0)
    wealth = proportions.start(DESIGNS["margin"])
    past = (proportions.moments(0, 0), proportions.moments(0, 0))
    for look, (n, a, m, b) in enumerate([(3, 3, 60, 1), (50, 49, 4, 4), (80, 2, 80, 30)]):
        new = (proportions.moments(n, a), proportions.moments(m, b))
        for side in (1, -1):
            after = proportions.add(DESIGNS["margin"], wealth, side, past, new)
            found[f"bets of side {side}, look {look}"] = after.tolist()
        past = (past[0] + new[0], past[1] + new[1])
    return found


def decision_figures():
    """Of one release of each strategy, every decision with its verdicts."""
    return {name: [_decision(record) for record in _played(name)] for name in RELEASES}


ERRORS = {
    "name": "errors",
    "kind": "guardrail",
    "metric": "errorRate",
    "source": "envoy",
    "relativeToChampion": True,
}
SLOW = {"name": "slow", "kind": "guardrail", "metric": "latencyP99", "source": "envoy", "bound": "50ms"}
TAIL = {
    "name": "tail",
    "kind": "guardrail",
    "metric": "latencyP99",
    "source": "envoy",
    "relativeToChampion": True,
}
LOGGED = {"kind": "guardrail", "source": "predictions"}
SKEW = {"name": "skew", "metric": "featureSkew", "bound": 2, **LOGGED}
DISAGREEMENT = {"name": "disagreement", "metric": "disagreement", "bound": 10, **LOGGED}
DISTANCE = {"name": "distance", "metric": "scoreDistance", "bound": 10, **LOGGED}
BRIER = {"name": "brier", "kind": "decision", "metric": "brier", "source": "feedback", "margin": 0.01}
BETTER = {"name": "reward", "kind": "decision", "metric": "reward", "source": "feedback", "alpha": 0.01}
SECOND = {"name": "second", "kind": "secondary", "metric": "reward", "source": "feedback"}

CANARY = {
    "type": "canary",
    "steps": [{"weight": 20, "minSamples": 100, "minDuration": "2m"}, {"weight": 50, "minSamples": 300}],
}
EXPERIMENT = {
    "type": "experiment",
    "unit": {"header": "x-user"},
    "allocation": {"12": 34, "13": 33, "14": 33},
    "minDuration": "4m",
    "maxDuration": "9m",
}
BANDIT = {"type": "bandit", "floor": 10, "update": "1m", "minDuration": "2m", "maxDuration": "15m"}
USUAL, GOOD = Behaviour(), Behaviour(loss=-0.03, reward=0.16)

RELEASES = {
    "mirrored canary": (
        {**CANARY, "mirror": True},
        [ERRORS, SLOW, SKEW, DISAGREEMENT, DISTANCE, BRIER],
        GOOD,
        USUAL,
    ),
    "slow canary": (CANARY, [ERRORS, TAIL], worse(USUAL, "latency"), USUAL),
    "canary that earns less": (CANARY, [ERRORS, SLOW, BETTER], worse(USUAL, "reward"), USUAL),
    "blue-green": (
        {"type": "blueGreen", "keepWarm": "3m", "smoke": [{}], "minSamples": 300},
        [{**ERRORS, "relativeToChampion": False, "bound": 5}, SLOW],
        USUAL,
        USUAL,
    ),
    "shadow": (
        {"type": "shadow", "minSamples": 800, "minDuration": "2m"},
        [{**ERRORS, "source": "predictions"}, SKEW, DISAGREEMENT, DISTANCE, BRIER],
        GOOD,
        USUAL,
    ),
    "shadow that differs": (
        {"type": "shadow", "minSamples": 800},
        [DISAGREEMENT, DISTANCE],
        worse(USUAL, "distance"),
        USUAL,
    ),
    "experiment with a winner": (EXPERIMENT, [ERRORS, BETTER, SECOND], GOOD, worse(USUAL, "errors")),
    "experiment without one": (EXPERIMENT, [ERRORS, BETTER, SECOND], USUAL, USUAL),
    "bandit with a winner": (BANDIT, [ERRORS, SLOW, BETTER], worse(USUAL, "errors"), Behaviour(reward=0.15)),
    "bandit without one": ({**BANDIT, "policy": "epsilonGreedy"}, [ERRORS, BETTER], USUAL, USUAL),
}


def _played(name):
    strategy, checks, first, second = RELEASES[name]
    candidates = {"candidate": "13"}
    if strategy["type"] in ("experiment", "bandit"):
        candidates = {"candidates": ["13", "14"], "champion": "12"}
    content = {"model": "flights", "strategy": strategy, "checks": checks, **candidates}
    release = spec.parse({"kind": "Release", "metadata": {"name": "flights-13"}, "spec": content})
    script = crashes.write(release, {"12": USUAL, "13": first, "14": second}, {})
    return crashes.play(script, crashes.in_memory()).decisions


def _decision(record):
    verdicts = [
        [v["check"], v["version"], v["outcome"], v["n"], v["estimate"], v["lower"], v["upper"], v["evidence"]]
        for v in record["verdicts"]
    ]
    return [record["action"], record["check"], record["weights"], record["alert"] is not None, verdicts]


FIGURES = {
    "comparisons": comparisons,
    "betting": betting_figures,
    "arms": arm_figures,
    "others": other_figures,
    "decisions": decision_figures,
}


def plain(value):
    """As JSON has it, with twelve digits; numbers that are not finite as texts."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    return float(f"{float(value):.12g}") if math.isfinite(value) else repr(float(value))


def differences(expected, found, path=""):
    """Where two plain values differ by more than rounding on another machine explains."""
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        return [d for key in expected for d in differences(expected[key], found[key], f"{path}/{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            d
            for place, (a, b) in enumerate(zip(expected, found, strict=True))
            for d in differences(a, b, f"{path}/{place}")
        ]
    if isinstance(expected, float) or isinstance(found, float):
        numbers = isinstance(expected, int | float) and isinstance(found, int | float)
        if numbers and math.isclose(expected, found, rel_tol=1e-7, abs_tol=1e-9):
            return []
    elif expected == found:
        return []
    return [f"{path}: {expected!r} was, {found!r} is"]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_what_they_were(name):
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    assert differences(expected, plain(FIGURES[name]()))[:5] == []


if __name__ == "__main__":
    for name, figures in FIGURES.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(plain(figures()), separators=(",", ":")) + "\n")
