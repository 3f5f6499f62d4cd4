"""Something injected: after how many days does the right column ring? Four calm weeks go before each change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.detection.contenders import DECAY, Contender, Distances, KolmogorovSmirnov, Ours, Sample
from benchmarks.detection.injections import SIZES, Injection, apply, of_columns
from benchmarks.detection.worlds import Block, World

CALM_WEEKS = 4
WATCHED_WEEKS = 4
CONCEPT_WEEKS = 12
LABEL = "label"
NEVER = 10_000
CONCEPT_SHARES = (0.5, 1.0)
HALF = 0.5
OTHER_SIZES = tuple(sign * size for size in SIZES if size != HALF for sign in (1, -1))
RIVAL_COLUMNS = 4


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


def columns(world: World, runs: int, seed: list[int], *, every_size: bool, rivals: bool) -> list[Outcome]:
    """Every change of every column, `runs` times each.

    Args:
        every_size: shifts of all sizes, and not of half a deviation only.
        rivals: let them watch one run of a change of half a deviation, of every `RIVAL_COLUMNS`-th column.
    """
    out: list[Outcome] = []
    sample = Sample.of(world, np.random.default_rng([*seed, 3]))
    for run in range(runs):
        rng = np.random.default_rng([*seed, 4, run])
        weeks = world.quarter(rng, CALM_WEEKS + WATCHED_WEEKS)
        calm, changed = weeks[:CALM_WEEKS], weeks[CALM_WEEKS:]
        ours = Ours(world, labelled=False)
        before = _last(ours, calm)
        for injection in of_columns(world):
            if injection.kind in ("mean", "scale") and abs(injection.size) != HALF and not every_size:
                continue
            blocks = _changed(injection, changed, world, rng)
            out.append(_follow("windlass", ours.fork(), injection, injection.column, before, blocks))
            place = world.flights.names.index(injection.column)
            if rivals and run == 0 and place % RIVAL_COLUMNS == 0 and injection.size not in OTHER_SIZES:
                for name, rival in (
                    ("evidently's distances", Distances(sample)),
                    ("KS p<0.05", KolmogorovSmirnov(sample)),
                ):
                    blocks = _changed(injection, changed, world, rng)
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
        shifted = list(_changed(shift, changed[:WATCHED_WEEKS], world, rng))
        out.append(_follow("windlass", ours.fork(), shift, LABEL, before, shifted))
        # the same rows again: a shift of labels alone must not be taken for decay
        out.append(_follow("windlass, decay", ours.fork(), shift, DECAY, before, shifted))
        for share in CONCEPT_SHARES:
            concept = Injection("concept", share)
            blocks = _changed(concept, changed, world, rng)
            out.append(_follow("windlass", ours.fork(), concept, DECAY, before, blocks))
    return out


def _changed(
    injection: Injection, blocks: Iterable[Block], world: World, rng: np.random.Generator
) -> Iterator[Block]:
    return (apply(injection, block, world, rng) for block in blocks)


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
    blocks: Iterable[Block],
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
