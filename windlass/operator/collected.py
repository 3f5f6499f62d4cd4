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
#: The metric of checks that hold what was served to the offline rows.
SKEW = "featureSkew"


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
    return METRICS[check.metric].paired or check.metric in ("reward", SKEW)


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
        asked = [check.metric for check in live.release.checks if is_asked(check)]
        try:
            found = self._collector.evidence(_question(live, at), self._known.paired, at)
        except SilentError as error:
            silent = dict.fromkeys(SOURCES, str(error))
        except RefusedError as error:
            # nobody mends it by waiting: an error of the checks is an alert, and holds as silence does
            faults = dict.fromkeys(asked, str(error))
        else:
            silent, faults = dict(found.silent), dict(found.faults)
            if found.at < at:
                reached = dict.fromkeys(SOURCES, found.at)
            less = _less(self._known, found)
            if less is None:
                arms = found.arms
                if SKEW in asked:
                    arms, lost = _compared(self._known, arms)
                    faults.update({} if lost is None else {SKEW: lost})
                self._known = Known(arms, found.pairs, {**self._known.paired, **found.paired})
            elif not set(SOURCES) <= set(silent):
                faults.update(dict.fromkeys(asked, less))
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


def _less(known: Known, found: Evidence) -> str | None:
    """What the collector says of, and said more of before; None where it has lost nothing."""
    counts = [("pairs", known.pairs.n if known.pairs else 0, found.pairs.n if found.pairs else 0)]
    counts += [
        (f"values of {name}", len(values), len(found.paired.get(name, ())))
        for name, values in known.paired.items()
    ]
    for version, before in known.arms.items():
        arm = found.arms.get(version, ArmEvidence())
        if before.units is not None and arm.units is not None:
            counts.append((f"units of version {version}", before.units, arm.units))
        for name, moments in before.outcomes.items():
            now = arm.outcomes.get(name)
            counts.append((f"outcomes of {name} of version {version}", moments.n, now.n if now else 0))
    for what, had, has in counts:
        if has < had:
            return (
                f"the collector counts {has} {what} now, and {had} before: its store has lost some; restore its "
                "volume, or begin the release anew"
            )
    return None


def _compared(known: Known, arms: Mapping[str, ArmEvidence]) -> tuple[dict[str, ArmEvidence], str | None]:
    """What was said of vectors, and why it cannot be used where fewer were compared than before: then that stands.

    Fewer may differ than before. Whoever corrects offline rows, and starts the collector again, has it say what is
    true by the corrected ones, and nobody holds a version to rows that were wrong.
    """
    found, lost = dict(arms), None
    for version, arm in arms.items():
        before = known.arms.get(version, ArmEvidence())
        if arm.skew_checked < before.skew_checked:
            found[version] = replace(
                arm,
                skew_checked=before.skew_checked,
                skew_mismatched=before.skew_mismatched,
                skew_by_input=before.skew_by_input,
            )
            # one that says why it compares none has lost nothing
            if SKEW not in arm.silent:
                lost = (
                    f"the collector has compared {arm.skew_checked} vectors of version {version}, and "
                    f"{before.skew_checked} before: its store or the offline rows have lost some; restore its volume, "
                    "or begin the release anew"
                )
        elif not arm.skew_checked and SKEW not in arm.silent:
            reason = "the collector says nothing of features; check that it is no older than the operator"
            found[version] = replace(arm, silent={**arm.silent, SKEW: reason})
    return found, lost


def _question(live: ReleaseState, at: datetime) -> Question:
    until = live.enrolled_until
    if until is not None and live.paused_at is not None and live.enrolment_paused:
        # as if it went on now: how long the pause lasts is known when it is over
        until += at - live.paused_at
    return Question(live.release, live.champion, live.started_at or at, until)


def _arms(live: ReleaseState, known: Known) -> dict[str, ArmEvidence]:
    """By version; of an experiment nobody has heard of, no unit is enrolled, which is not the same as one unit a
    request. Of all else units are what Prometheus counts, of which the journal's newest decision knows as well."""
    if not isinstance(live.release.strategy, Experiment):
        return {version: replace(arm, units=None) for version, arm in known.arms.items()}
    found = dict(known.arms)
    for version in (live.champion, *live.release.candidates):
        arm = found.get(version, ArmEvidence())
        found[version] = arm if arm.units is not None else replace(arm, units=0)
    return found
