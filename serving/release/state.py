"""A release in progress, as a value: all that the next decision depends on besides evidence and time.

It goes into the journal with every decision and comes back from there after a crash, so it must survive JSON
unchanged; floats do, since `repr` gives them back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from serving.release.checks import Comparison
from serving.release.release import Release
from serving.release.tally import NOTHING, ArmCounts, Counts

Phase = Literal["Pending", "Progressing", "Paused", "Promoted", "RolledBack", "Aborted"]

#: Phases in which nothing more happens by itself.
FINISHED: tuple[Phase, ...] = ("Promoted", "RolledBack", "Aborted")


@dataclass(frozen=True)
class Ratio:
    """What the sample-ratio test remembers.

    Attributes:
        settled: log evidence of the steps that are over.
        base: counts at which this step's own begin; None until the first look after a change of weights, whose
            requests were partly split by the old ones.
        counts: this step's requests of the candidate and the champion.
    """

    settled: float = 0.0
    base: tuple[int, int] | None = None
    counts: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ReleaseState:
    """One release of one model.

    Attributes:
        step: index of the step in force; -1 before the start.
        weights, mirror_to: what the router was last told.
        step_base: observations by check when the step began; "requests" are the candidate's.
        requests: what was seen at the last look.
        comparisons: by relative check.
        alert: what a person was last alerted of; the same is not said twice.
    """

    release: Release
    champion: str
    phase: Phase = "Pending"
    step: int = -1
    weights: Mapping[str, int] = field(default_factory=dict)
    mirror_to: str | None = None
    started_at: datetime | None = None
    step_started_at: datetime | None = None
    paused_at: datetime | None = None
    step_base: Mapping[str, int] = field(default_factory=dict)
    requests: ArmCounts = NOTHING
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    ratio: Ratio = Ratio()
    alert: str | None = None

    @property
    def live(self) -> bool:
        return self.phase not in FINISHED


def initial(release: Release, champion: str) -> ReleaseState:
    """The state before the first decision; the champion has all the traffic."""
    return ReleaseState(release=release, champion=champion, weights={champion: 100})


def to_json(state: ReleaseState) -> dict[str, Any]:
    """Plain values, without the release's document: the journal holds that once."""
    plain = asdict(state)
    del plain["release"]
    for name in ("started_at", "step_started_at", "paused_at"):
        plain[name] = None if plain[name] is None else plain[name].isoformat()
    return plain


def from_json(plain: Mapping[str, Any], release: Release) -> ReleaseState:
    """The inverse of `to_json`."""
    fields = dict(plain)
    for name in ("started_at", "step_started_at", "paused_at"):
        fields[name] = None if fields[name] is None else datetime.fromisoformat(fields[name])
    fields["requests"] = _arm_counts(fields["requests"])
    fields["comparisons"] = {
        name: Comparison(_arm_counts(c["seen"]), tuple(c["harm"]), tuple(c["safety"]))
        for name, c in fields["comparisons"].items()
    }
    ratio = fields["ratio"]
    base = None if ratio["base"] is None else (ratio["base"][0], ratio["base"][1])
    fields["ratio"] = Ratio(ratio["settled"], base, (ratio["counts"][0], ratio["counts"][1]))
    return ReleaseState(release=release, **fields)


def _arm_counts(plain: Mapping[str, Mapping[str, int]]) -> ArmCounts:
    return ArmCounts(Counts(**plain["candidate"]), Counts(**plain["champion"]))
