"""Many seeds, and the planted bugs, in parallel processes; the result does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from typing import Any

from serving.release.simulation.bugs import Bug, Hunt, hunt

#: Seeds of one piece of work, violations that are told in full, seeds that a planted bug is given.
PIECE = 25
TOLD = 20
CAP = 300

#: Share of the planted bugs that must be caught.
MUST_CATCH = 0.95

Progress = Callable[[int, int, str], None]


@dataclass
class Campaign:
    """What came of all seeds.

    Attributes:
        promised: good candidates that had to be promoted, and harmful ones that had to be rolled back.
        kept: how many were.
    """

    seeds: int = 0
    violations: int = 0
    violation_list: list[dict[str, Any]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    decisions: int = 0
    promised: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    broken: list[int] = field(default_factory=list)

    def add(self, other: Campaign) -> None:
        """Take in what came of further seeds."""
        self.seeds += other.seeds
        self.violations += other.violations
        self.violation_list = (self.violation_list + other.violation_list)[:TOLD]
        self.faults += other.faults
        self.decisions += other.decisions
        self.promised += other.promised
        self.kept += other.kept
        self.broken += other.broken

    def share(self, end: str) -> float | None:
        """Share of the promises of this end that were kept; None where there were none."""
        return self.kept[end] / self.promised[end] if self.promised[end] else None


def simulate(seeds: Sequence[int]) -> Campaign:
    """Some seeds in this process."""
    from serving.release.simulation.run import play

    found = Campaign()
    for seed in seeds:
        outcome = play(seed)
        found.seeds += 1
        found.violations += len(outcome.violations)
        found.violation_list += [asdict(violation) for violation in outcome.violations]
        found.faults.update(outcome.faults)
        found.decisions += outcome.decisions
        if outcome.promised is not None:
            found.promised[outcome.promised] += 1
            found.kept[outcome.promised] += outcome.kept
            if not outcome.kept:
                found.broken.append(seed)
    found.violation_list = found.violation_list[:TOLD]
    return found


def run(start: int, seeds: int, workers: int, progress: Progress) -> Campaign:
    """Simulate seeds `start` to `start + seeds - 1`."""
    pieces = [range(first, min(first + PIECE, start + seeds)) for first in range(start, start + seeds, PIECE)]
    total = Campaign()
    for found in _spread(simulate, [(piece,) for piece in pieces], workers, progress, "seeds", fresh=False):
        total.add(found)
    return total


def catch(bugs: Iterable[Bug], start: int, cap: int, workers: int, progress: Progress) -> list[Hunt]:
    """Look for each planted bug, in a process of its own."""
    work = [(bug, start, cap) for bug in bugs]
    return _spread(hunt, work, workers, progress, "planted bugs", fresh=True)


def _spread(
    work: Callable[..., Any],
    pieces: Sequence[tuple[Any, ...]],
    workers: int,
    progress: Progress,
    what: str,
    *,
    fresh: bool,
) -> list[Any]:
    """Results in the order of the pieces; `fresh` gives each a process that has imported nothing of the engine."""
    if not fresh and (workers <= 1 or len(pieces) <= 1):
        found = []
        for done, piece in enumerate(pieces, start=1):
            found.append(work(*piece))
            progress(done, len(pieces), what)
        return found
    results: dict[int, Any] = {}
    pool = ProcessPoolExecutor(
        max(1, min(workers, len(pieces))),
        mp_context=multiprocessing.get_context("spawn"),  # a fork would have the engine already
        max_tasks_per_child=1 if fresh else None,
    )
    with pool:
        waiting: dict[Future[Any], int] = {pool.submit(work, *piece): n for n, piece in enumerate(pieces)}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                results[waiting[future]] = future.result()
                progress(done, len(pieces), what)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[n] for n in range(len(pieces))]


def report(found: Campaign, start: int, hunts: Sequence[Hunt] | None, seconds: float) -> dict[str, Any]:
    """The object that `windlass sim --json` prints; `hunts` None where no bugs were planted."""
    caught = None if hunts is None else sum(1 for one in hunts if one.caught)
    return {
        "seeds": found.seeds,
        "start": start,
        "violations": found.violations,
        "violation_list": found.violation_list,
        "faults_injected": sum(found.faults.values()),
        "faults": dict(sorted(found.faults.items())),
        "fault_kinds": len(found.faults),
        "decisions": found.decisions,
        "good": found.promised["Promoted"],
        "good_promoted": found.share("Promoted"),
        "harmful": found.promised["RolledBack"],
        "harmful_rolled_back": found.share("RolledBack"),
        "promises_broken": found.broken,
        "planted_bugs": 0 if hunts is None else len(hunts),
        "caught": caught or 0,
        "missed": [] if hunts is None else [one.name for one in hunts if not one.caught],
        "bugs": [] if hunts is None else [asdict(one) for one in hunts],
        "seconds": round(seconds, 1),
    }


def holds(document: dict[str, Any]) -> bool:
    """Whether nothing was violated, promises were kept, and planted bugs were caught as they must be."""
    good, harmful = document["good_promoted"], document["harmful_rolled_back"]
    return bool(
        document["violations"] == 0
        and (good is None or good >= 0.99 or document["good"] < 100)
        and (harmful is None or harmful == 1)
        and document["caught"] >= MUST_CATCH * document["planted_bugs"]
    )
