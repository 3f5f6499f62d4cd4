"""Power: how many observations of each arm until a real lift is called, beside what could be had at best.

The limit is the growth-rate-optimal test that is told the true effect (and the baseline, or the variance), at the same
looks and with the same sidedness: all of its alpha / 2 for "better" rides on that one effect. The fixed horizon is the
classic size for 80 % power, which allows one look only. Plans state the lift, half of it, twice of it, or nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.release import sequential
from benchmarks.release.parts import Chart, Options, Part, Progress, measurement, spread, target
from benchmarks.release.populations import POPULATIONS, Population
from serving.release.statistics import planning
from serving.release.statistics.design import Design
from serving.release.statistics.moments import Moments

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

ALPHA = 0.05
PER_LOOK = 25
LIFTS = (0.10, 0.20, 0.50)
METRICS = ("binary, 5 %", "continuous, normal", "continuous, lognormal (sigma 1.5)", "ratio, clicks per view")
#: Plan -> the effect it states as a multiple of the true lift, and the bound on our median over the limit's.
PLANS: dict[str, tuple[float | None, float | None]] = {
    "windlass, planned": (1.0, 1.2),
    "windlass, planned half": (0.5, 1.4),
    "windlass, planned twice": (2.0, 1.4),
    "windlass, no plan": (None, None),
}
LIMIT, FIXED = "limit", "fixed, 80 %"
REPETITIONS = 2_000
#: Repetitions of a piece, and how many of them are drawn at a time, for the memory's sake.
PIECE, DRAWN = 250, 10
#: Observations drawn of each arm, in medians of the limit: what is not decided by then counts as never.
HORIZON = 8


@dataclass(frozen=True)
class Piece:
    """Some repetitions of one metric and lift."""

    population: str
    lift: float
    repetitions: int
    looks: int
    seed: int


def measure(options: Options, progress: Progress) -> Part:
    """Every metric, lift and plan."""
    repetitions = options.repetitions(REPETITIONS, 100)
    cases = [(name, lift) for name in METRICS for lift in LIFTS]
    pieces = [
        Piece(
            name,
            lift,
            min(PIECE, repetitions - start),
            horizon(name, lift),
            options.seed_of("power", name, lift, start),
        )
        for lift in LIFTS
        for name in METRICS
        for start in range(0, repetitions, PIECE)
    ]
    found = spread(simulate, pieces, options, progress, "power")
    part = Part()
    curves = []
    for name, lift in cases:
        sizes: dict[str, list[float]] = {}
        for piece, got in zip(pieces, found, strict=True):
            if (piece.population, piece.lift) == (name, lift):
                for contender, values in got.items():
                    sizes.setdefault(contender, []).extend(values)
        curves.append(_report(part, name, lift, sizes))
    part.plots["power"] = [chart for chart in curves if chart.title.startswith(METRICS[0])]
    return part


def horizon(name: str, lift: float) -> int:
    """Looks to draw."""
    population = POPULATIONS[name]
    spread_ = population.variance(lift) + population.variance(0.0)
    return math.ceil(HORIZON * 6 * spread_ / (population.baseline * lift) ** 2 / PER_LOOK)


def simulate(piece: Piece) -> dict[str, list[float]]:
    """Contender -> observations of each arm at its decision for "better"; inf where it came to none."""
    import numpy as np

    population = POPULATIONS[piece.population]
    rng = np.random.default_rng(piece.seed)
    drawn = []
    for start in range(0, piece.repetitions, DRAWN):
        shape = (min(DRAWN, piece.repetitions - start), piece.looks * PER_LOOK)
        drawn.append([population.draw(rng, shape, lift).looks(PER_LOOK) for lift in (piece.lift, 0.0)])
    candidate, champion = (sequential.joined(arms) for arms in zip(*drawn, strict=True))
    found = {
        LIMIT: _sizes(
            sequential.first(limit(population, piece.lift, candidate, champion) >= math.log(2 / ALPHA))
        )
    }
    for plan, (multiple, _) in PLANS.items():
        effect = None if multiple is None else multiple * piece.lift
        at, sides = sequential.decisions(
            Design(population.kind, "increase", ALPHA, effect), candidate, champion
        )
        found[plan] = _sizes(np.where(sides == 1, at, sequential.NEVER))
    return found


def limit(population: Population, lift: float, candidate: Moments, champion: Moments) -> Array:
    """Log wealth, look by look, of the bet that is told the truth.

    Binary: R. Turner, A. Ly and P. Gruenwald (2024), Theorem 1, with both true rates. Otherwise the likelihood ratio of
    normal means with the true effect and the true variances.
    """
    a, b = sequential.cumulative(candidate), sequential.cumulative(champion)
    if population.kind == "binary":
        rates = (population.baseline * (1 + lift), population.baseline)
        middle = sum(rates) / 2

        def log_ratio(arm: Moments, rate: float) -> Array:
            ones = arm.y * math.log(rate / middle)
            wealth: Array = ones + (arm.n - arm.y) * math.log((1 - rate) / (1 - middle))
            return wealth

        return log_ratio(a, rates[0]) + log_ratio(b, rates[1])
    effect = population.baseline * lift
    means = [arm.y / (arm.z if population.kind == "ratio" else arm.n) for arm in (a, b)]
    information = a.n / (population.variance(lift) + population.variance(0.0))
    wealth: Array = information * (effect * (means[0] - means[1]) - effect**2 / 2)
    return wealth


def fixed(population: Population, lift: float) -> int:
    """Observations of each arm for a single look with 80 % power."""
    design, traffic = Design(population.kind, "increase", ALPHA, lift), planned_traffic(population)
    return planning.fixed_size(design, traffic).candidate


def planned_traffic(population: Population) -> planning.Traffic:
    """What somebody who plans knows: the champion's past."""
    return planning.Traffic(population.baseline, math.sqrt(population.variance(0.0)))


def _report(part: Part, name: str, lift: float, sizes: dict[str, list[float]]) -> Chart:
    import numpy as np

    case = f"{name}, lift {lift:.0%}"
    medians, tails = ({who: _quantile(values, q) for who, values in sizes.items()} for q in (0.5, 0.9))
    for label, found in (("median", medians), ("90th percentile", tails)):
        for who, value in found.items():
            part.measurements.append(measurement(f"sample size an arm, {label}", who, value, "", case))
        part.measurements.append(
            measurement(f"sample size an arm, {label}", FIXED, fixed(POPULATIONS[name], lift), "", case)
        )
    for who, (multiple, bound) in PLANS.items():
        best, ours = medians[LIMIT], medians[who]
        ratio = ours / best if ours is not None and best is not None else None
        part.measurements.append(measurement("median over the limit's", who, ratio, "", case))
        if bound is not None:
            part.targets.append(target(f"power, {case}, {who}: median over the limit's", ratio, "<=", bound))
        if multiple == 1.0:
            design = Design(POPULATIONS[name].kind, "increase", ALPHA, lift)
            told = planning.sequential_size(design, planned_traffic(POPULATIONS[name]), 0.5).candidate
            part.measurements.append(
                measurement(
                    "median as planned over the measured one", who, told / ours if ours else None, "", case
                )
            )
    grid = np.linspace(0, 3 * (medians[LIMIT] or 1), 200)
    series = {
        who: (grid.tolist(), [float(np.mean(np.asarray(values) <= size)) for size in grid])
        for who, values in sizes.items()
    }
    return Chart(case, "observations of each arm", "share decided", series)


def _quantile(values: list[float], q: float) -> float | None:
    """None where so many never decided."""
    value = sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
    return value if math.isfinite(value) else None


def _sizes(at: Any) -> list[float]:
    return [math.inf if look == sequential.NEVER else float((look + 1) * PER_LOOK) for look in at]
