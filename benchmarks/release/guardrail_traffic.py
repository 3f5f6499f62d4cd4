"""Requests to two versions as a router sees them: assigned by chance, served concurrently, logged when answered.

Trouble comes in spells of time. What hits both versions alike (`Shared`) must be blamed on nobody; what one
version's server does by itself (`own_stalls`) is that version's. A stall holds back whatever is in flight, and its
answers come out together when it ends: that is how a handful of slow answers gets into one look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Requests a second, and a healthy answer: lognormal, median 8 ms, p99 26 ms, an error in 500.
RATE = 50.0
MEDIAN_MS = 8.0
SPREAD = 0.5
ERRORS = 0.002

#: Mean seconds between spells, and how long and how bad they are.
BURST_EVERY, BURST_S, BURST_ERRORS = 150.0, 8.0, (0.1, 0.9)
SLOW_EVERY, SLOW_S, SLOW_FACTOR = 200.0, 10.0, (5.0, 40.0)
STALL_EVERY, STALL_S = 40.0, (0.1, 3.0)


@dataclass(frozen=True)
class World:
    """What happens while both versions are equally good.

    Attributes:
        shares: the candidate's share, one after the other for equal parts of the release.
        bursts: spells of errors and of slowness, of both versions.
        stalls: the machine stands still, with both versions.
        own_stalls: each version's process stands still, each at its own times, equally often.
    """

    name: str
    shares: tuple[float, ...] = (0.1,)
    bursts: bool = False
    stalls: bool = False
    own_stalls: bool = False


@dataclass(frozen=True)
class Harm:
    """What is wrong with the candidate.

    Attributes:
        errors: its error rate.
        slower_ms: what it takes longer, on this share of its requests.
    """

    errors: float = ERRORS
    slower_ms: float = 0.0
    slower_share: float = 0.0


@dataclass(frozen=True)
class Answers:
    """One entry an answer, in the order of the log."""

    candidate: np.ndarray
    failed: np.ndarray
    latency_ms: np.ndarray


def simulate(rng: np.random.Generator, requests: int, world: World, harm: Harm | None = None) -> Answers:
    """`requests` requests and how they were answered."""
    came = np.cumsum(rng.exponential(1 / RATE, requests))
    end = float(came[-1])
    shares = np.asarray(world.shares)[np.arange(requests) * len(world.shares) // requests]
    candidate = rng.random(requests) < shares
    takes = rng.lognormal(np.log(MEDIAN_MS / 1000), SPREAD, requests)
    errors = np.full(requests, ERRORS)
    if harm is not None:
        errors[candidate] = harm.errors
        takes += (candidate & (rng.random(requests) < harm.slower_share)) * harm.slower_ms / 1000
    if world.bursts:
        for start in _spells(rng, BURST_EVERY, end):
            errors[_during(came, start, start + rng.exponential(BURST_S))] = rng.uniform(*BURST_ERRORS)
        for start in _spells(rng, SLOW_EVERY, end):
            takes[_during(came, start, start + rng.exponential(SLOW_S))] *= rng.uniform(*SLOW_FACTOR)
    failed = rng.random(requests) < errors
    done = came + takes
    if world.stalls:
        _stall(rng, came, done, np.ones(requests, dtype=bool), end)
    if world.own_stalls:
        _stall(rng, came, done, candidate, end)
        _stall(rng, came, done, ~candidate, end)
    order = np.argsort(done, kind="stable")
    return Answers(candidate[order], failed[order], 1000 * (done - came)[order])


def look_ends(rng: np.random.Generator, requests: int, irregular: bool) -> np.ndarray:
    """How many answers the log holds at each look: one every 50, or after 1 to some thousand."""
    if not irregular:
        return np.arange(50, requests + 1, 50)
    gaps = np.ceil(rng.lognormal(np.log(40), 1.3, requests // 20)).astype(int)
    ends = np.cumsum(gaps)
    return ends[ends <= requests]


def _spells(rng: np.random.Generator, every_s: float, end: float) -> np.ndarray:
    return rng.uniform(0, end, rng.poisson(end / every_s))


def _during(came: np.ndarray, start: float, stop: float) -> slice:
    first, last = np.searchsorted(came, [start, stop])
    return slice(int(first), int(last))


def _stall(rng: np.random.Generator, came: np.ndarray, done: np.ndarray, hit: np.ndarray, end: float) -> None:
    """Hold `done` back, in place: what is in flight at a stall, or arrives in it, waits for its end."""
    for start in np.sort(_spells(rng, STALL_EVERY, end)):
        stop = start + rng.uniform(*STALL_S)
        # nothing takes longer than a minute
        near = _during(came, start - 60, stop)
        caught = hit[near] & (done[near] > start)
        done[near] += caught * (stop - np.maximum(came[near], start))
