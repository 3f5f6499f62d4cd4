"""A/A: nothing differs, and somebody looks after every 50 requests up to 50,000. How often is that called a difference?

Ours is asked with the plans that people state: an effect of 10 %, of 50 %, or none. Beside it the same looks
at tests that are made for one look, and a threshold in the style of today's rollout tools.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.release import rivals, sequential
from benchmarks.release.parts import Chart, Options, Part, Progress, measurement, spread, target
from benchmarks.release.populations import POPULATIONS
from serving.release.statistics.design import Design

ALPHA = 0.05
PER_LOOK = 25
PER_ARM = 25_000
REPETITIONS = 2_000
SLOW_REPETITIONS = 100
PIECE = 50
PLANS = {"planned 10 %": 0.10, "planned 50 %": 0.5, "no plan": None}
Z, RANKS, THRESHOLD = "z-test, peeked at", "Mann-Whitney, peeked at", "threshold"
UNEQUAL = ("binary, 5 %", "continuous, lognormal (sigma 1.5)", "continuous, revenue (5 % buy, sigma 1.2)")


@dataclass(frozen=True)
class Piece:
    """Some repetitions of one case. `ranked`: how many of them the rank test judges too."""

    population: str
    shares: tuple[int, int]
    repetitions: int
    ranked: int
    seed: int


def measure(options: Options, progress: Progress) -> Part:
    """Every metric at 1:1, and the skewed ones at 1:9."""
    repetitions = options.repetitions(REPETITIONS, 100)
    cases = [(name, (1, 1)) for name in POPULATIONS] + [(name, (1, 9)) for name in UNEQUAL]
    pieces = []
    for name, shares in cases:
        for start in range(0, repetitions, PIECE):
            slow = options.repetitions(SLOW_REPETITIONS, 4) if shares == (1, 1) else 0
            ranked = min(max(slow - start, 0), PIECE)
            seed = options.seed_of("aa", name, shares, start)
            pieces.append(Piece(name, shares, min(PIECE, repetitions - start), ranked, seed))
    # the rank test is slow: its pieces first, so that no worker ends on one
    pieces.sort(key=lambda piece: -piece.ranked)
    found = spread(simulate, pieces, options, progress, "A/A")
    part = Part()
    shown: dict[str, list[float]] = {}
    for name, shares in cases:
        counts = [
            got
            for piece, got in zip(pieces, found, strict=True)
            if (piece.population, piece.shares) == (name, shares)
        ]
        case = name if shares == (1, 1) else f"{name}, {shares[0]}:{shares[1]}"
        for contender in counts[0]:
            judged = sum(got[contender][1] for got in counts if contender in got)
            if not judged:
                continue
            rate = sum(got[contender][0] for got in counts if contender in got) / judged
            part.measurements.append(
                measurement("false decisions", contender, 100 * rate, "%", case, repetitions=judged)
            )
            if contender.startswith("windlass"):
                part.targets.append(target(f"A/A, {case}, {contender}: false decisions", rate, "<=", ALPHA))
            if shares == (1, 1):
                shown.setdefault(contender, []).append(100 * rate)
    names = [name for name, shares in cases if shares == (1, 1)]
    bars = {contender: (names, rates) for contender, rates in shown.items() if len(rates) == len(names)}
    part.plots["aa"] = [
        Chart("False decisions in A/A, 1,000 looks", "", "% of releases", bars, "bar", bound=100 * ALPHA)
    ]
    return part


def simulate(piece: Piece) -> dict[str, tuple[int, int]]:
    """Contender -> (decided, repetitions)."""
    import numpy as np

    population = POPULATIONS[piece.population]
    rng = np.random.default_rng(piece.seed)
    looks = PER_ARM // PER_LOOK
    parts = 2 * PER_LOOK // sum(piece.shares)
    sizes = [share * parts for share in piece.shares]
    drawn = [population.draw(rng, (piece.repetitions, looks * size), 0.0) for size in sizes]
    candidate, champion = (arm.looks(size) for arm, size in zip(drawn, sizes, strict=True))
    found: dict[str, tuple[int, int]] = {}
    for plan, effect in PLANS.items():
        design = Design(population.kind, "increase", ALPHA, effect, covariate=population.covariate)
        at, _ = sequential.decisions(design, candidate, champion)
        found[f"windlass, {plan}"] = _count(at != sequential.NEVER)
    plain = Design("continuous" if population.kind == "binary" else population.kind, "increase", ALPHA, None)
    found[Z] = _count(rivals.z_test(plain, candidate, champion))
    found[THRESHOLD] = _count(rivals.threshold(candidate, champion))
    if piece.shares == (1, 1):
        few = [_few(arm, piece.ranked) for arm in drawn]
        found[RANKS] = _count(rivals.mann_whitney(few[0], few[1], PER_LOOK, plain.min_samples))
    return found


def _count(decided: Any) -> tuple[int, int]:
    return int(sum(decided)), len(decided)


def _few(arm: Any, repetitions: int) -> Any:
    """The first repetitions of an arm."""
    return type(arm)(arm.y[:repetitions], None if arm.z is None else arm.z[:repetitions])
