"""Something injected: after how many days does the right column ring? Four calm weeks go before each change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.detection.contenders import DECAY, Contender, Distances, KolmogorovSmirnov, Ours, Sample
from benchmarks.detection.injections import Injection, apply, of_columns
from benchmarks.detection.worlds import Block, World

CALM_WEEKS = 4
WATCHED_WEEKS = 4
CONCEPT_WEEKS = 12
LABEL = "label"
NEVER = 10_000
CONCEPT_SHARES = (0.5, 1.0)


@dataclass(frozen=True)
class Outcome:
    """One change and one contender.

    Attributes:
        days: from the change to the look that rang; NEVER if none did in the weeks watched.
        labels: matured labels up to then (concept drift only).
        others: other columns that rang beside it at that look and did not before the change.
        rang_before: the column rang already before the change: no detection, and no run that counts.
    """

    injection: Injection
    contender: str
    days: int
    labels: int = 0
    others: int = 0
    rang_before: bool = False


def columns(world: World, runs: int, rival_runs: int, seed: list[int]) -> list[Outcome]:
    """Every change of every column, `runs` times each."""
    out: list[Outcome] = []
    sample = Sample.of(world, np.random.default_rng([*seed, 3]))
    for run in range(runs):
        rng = np.random.default_rng([*seed, 4, run])
        weeks = world.quarter(rng, CALM_WEEKS + WATCHED_WEEKS)
        calm, changed = weeks[:CALM_WEEKS], weeks[CALM_WEEKS:]
        ours = Ours(world, labelled=False)
        before = _last(ours, calm)
        for injection in of_columns(world):
            ringing = before
            follower = ours.fork()
            blocks = [apply(injection, b, world, rng) for b in changed]
            out.append(_follow("windlass", follower, injection, injection.column, ringing, blocks))
            if run < rival_runs and abs(injection.size) in (0.0, 0.05, 0.2, 0.5):
                for name, rival in (
                    ("evidently's distances", Distances(sample)),
                    ("KS p<0.05", KolmogorovSmirnov(sample)),
                ):
                    out.append(_follow(name, rival, injection, injection.column, frozenset(), blocks))
    return out


def outcomes(world: World, runs: int, seed: list[int]) -> list[Outcome]:
    """Label shift and concept drift."""
    out: list[Outcome] = []
    for run in range(runs):
        rng = np.random.default_rng([*seed, 5, run])
        weeks = world.quarter(rng, CALM_WEEKS + CONCEPT_WEEKS)
        calm, changed = weeks[:CALM_WEEKS], weeks[CALM_WEEKS:]
        ours = Ours(world)
        before = _last(ours, calm)
        shift = Injection("label shift")
        blocks = [apply(shift, b, world, rng) for b in changed[:WATCHED_WEEKS]]
        out.append(_follow("windlass", ours.fork(), shift, LABEL, before, blocks))
        # the same rows again: a shift of labels alone must not be taken for decay
        out.append(_follow("windlass, decay", ours.fork(), shift, DECAY, before, blocks))
        for share in CONCEPT_SHARES:
            concept = Injection("concept", share)
            blocks = [apply(concept, b, world, rng) for b in changed]
            out.append(_follow("windlass", ours.fork(), concept, DECAY, before, blocks))
    return out


def _last(contender: Contender, blocks: Iterable[Block]) -> frozenset[str]:
    ringing: frozenset[str] = frozenset()
    for block in blocks:
        ringing = contender.look(block)
    return ringing


def _follow(
    name: str,
    contender: Contender,
    injection: Injection,
    column: str,
    before: frozenset[str],
    blocks: list[Block],
) -> Outcome:
    if column in before:
        return Outcome(injection, name, NEVER, rang_before=True)
    labels = 0
    for k, block in enumerate(blocks):
        ringing = contender.look(block)
        labels += int(np.isfinite(block.labels).sum())
        if column in ringing:
            return Outcome(injection, name, 7 * (k + 1), labels, len(ringing - before) - 1)
    return Outcome(injection, name, NEVER, labels)
