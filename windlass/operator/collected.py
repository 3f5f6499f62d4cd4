"""What a live release's predictions and feedback say, look by look, out of the collector; nothing is kept on a disk.

The collector answers cumulatively. While it is silent the newest answer stands and its sources are silent, so that the
checks that rest on it are inconclusive and nothing moves on; whoever takes over, or starts again, has that answer from
the newest decision in the journal, with all paired values up to it, and asks for those that came after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from serving.release.collector.client import Collector, Question, RefusedError, SilentError
from serving.release.evidence import ArmEvidence, Evidence, Pairs
from serving.release.journal import evidence_json
from serving.release.journal.store import Record
from serving.release.metrics import METRICS
from serving.release.release import Bandit, Check, Experiment, Release, Shadow
from serving.release.state import ReleaseState

#: Sources of checks that the collector speaks for.
SOURCES = ("predictions", "feedback")


@dataclass(frozen=True)
class Known:
    """The newest answer.

    Attributes:
        arms: without what Prometheus counts.
        paired: all values so far.
    """

    arms: Mapping[str, ArmEvidence] = field(default_factory=dict)
    pairs: Pairs | None = None
    paired: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def is_needed(release: Release) -> bool:
    """Whether a release rests on more than Prometheus' counters."""
    return isinstance(release.strategy, Shadow | Experiment | Bandit) or any(map(is_asked, release.checks))


def is_asked(check: Check) -> bool:
    """Whether the collector has what a check judges."""
    return METRICS[check.metric].paired or check.metric == "reward"


class Collected:
    """The collector's evidence of one release.

    Args:
        known: what was known to the newest decision, see `of_journal`.
    """

    def __init__(self, collector: Collector, known: Known) -> None:
        self._collector = collector
        self._known = known

    def look(self, live: ReleaseState, at: datetime) -> Evidence:
        """Everything received up to now; where the collector is silent, what was known before, and why."""
        silent: dict[str, str] = {}
        faults: dict[str, str] = {}
        reached: dict[str, datetime] = {}
        try:
            found = self._collector.evidence(_question(live, at), self._known.paired, at)
        except SilentError as error:
            silent = dict.fromkeys(SOURCES, str(error))
        except RefusedError as error:
            # nobody mends it by waiting: an error of the checks is an alert, and holds as silence does
            asked = [check.metric for check in live.release.checks if is_asked(check)]
            faults = dict.fromkeys(asked, str(error))
        else:
            silent, faults = dict(found.silent), dict(found.faults)
            if found.at < at:
                reached = dict.fromkeys(SOURCES, found.at)
            self._known = Known(found.arms, found.pairs, {**self._known.paired, **found.paired})
        return Evidence(
            at,
            arms=_arms(live, self._known),
            paired=self._known.paired,
            pairs=self._known.pairs,
            silent=silent,
            faults=faults,
            reached=reached,
        )


def of_journal(records: Iterable[Record]) -> Known:
    """What the collector had said up to a journal's newest decision."""
    known = Known()
    for record in records:
        if record["kind"] == "decision" and record.get("evidence"):
            found = evidence_json.from_json(record["evidence"], known.paired)
            known = Known(found.arms, found.pairs, {**known.paired, **found.paired})
    arms = {v: replace(arm, requests=0, errors=0, latencies=None) for v, arm in known.arms.items()}
    return replace(known, arms=arms)


def _question(live: ReleaseState, at: datetime) -> Question:
    until = live.enrolled_until
    if until is not None and live.paused_at is not None and live.enrolment_paused:
        # as if it went on now: how long the pause lasts is known when it is over
        until += at - live.paused_at
    return Question(live.release, live.champion, live.started_at or at, until)


def _arms(live: ReleaseState, known: Known) -> dict[str, ArmEvidence]:
    """By version; of an experiment nobody has heard of, no unit is enrolled, which is not the same as one unit a
    request."""
    found = dict(known.arms)
    if isinstance(live.release.strategy, Experiment):
        for version in (live.champion, *live.release.candidates):
            arm = found.get(version, ArmEvidence())
            found[version] = arm if arm.units is not None else replace(arm, units=0)
    return found
