"""A release in progress, as a value: all that the next decision depends on besides evidence and time.

It goes into the journal with every decision and comes back from there after a crash, so it must survive JSON
unchanged; floats do, since `repr` gives them back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from serving.release import traffic as traffic_json
from serving.release.checks import Comparison
from serving.release.counts import NOTHING, ArmCounts, Counts
from serving.release.release import Experiment, Release
from serving.release.statistics import arms
from serving.release.statistics.design import START, Evidence
from serving.release.statistics.tail import Slow, Tail
from serving.release.traffic import Traffic, all_to
from windlass.errors import WindlassError

Phase = Literal["Pending", "Progressing", "Paused", "Promoted", "RolledBack", "Aborted"]

#: Phases in which nothing more happens by itself.
FINISHED: tuple[Phase, ...] = ("Promoted", "RolledBack", "Aborted")

#: Which rules decide: a release is judged to its end by those it began with, and replayed by them.
RULES = 3


@dataclass(frozen=True)
class Ratio:
    """What the sample-ratio test remembers.

    Attributes:
        settled: log evidence of the steps that are over.
        base: counts at which this step's own begin; None until the first look after a change of weights, whose
            requests were partly split by the old ones; empty until the first look after the wire was repaired.
        counts: this step's requests (of an experiment: units) of the candidates and the champion, in this order.
    """

    settled: float = 0.0
    base: tuple[int, ...] | None = None
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Memory:
    """What one check of one candidate remembers between looks; each uses its own part.

    Attributes:
        alone: of a bandit's candidate against the champion only, where `comparison` is against all others.
        last: counts at the last look, of an absolute check.
        excused: of them, what all versions answered while all of them failed.
    """

    comparison: Comparison = Comparison()
    alone: Comparison = Comparison()
    tail: Tail | None = None
    last: ArmCounts = NOTHING
    excused: ArmCounts = NOTHING
    effect: Evidence = START


@dataclass(frozen=True)
class ReleaseState:
    """One release of one model.

    Attributes:
        rules: version of the rules that judge it.
        step: index of the step in force; -1 before the start.
        traffic: what the router was last told.
        dropped: candidates that are out, and why.
        step_base: observations by check when the step began; "requests" are the candidate's.
        updated_at: when a bandit's weights were last worked out.
        dropped_at: when a version was last taken out.
        blocked_since: since when every look has found something in the way that is no part of the plan.
        requests: by version, what was seen at the last look.
        window: by version, what had been seen when the newest window began: the requests in which an outage shows.
        outage: what every version answered in the last full window, where all of them failed; else empty.
        memory: by check (and candidate, where there are several).
        alert: what a person was last alerted of; the same is not said twice.
    """

    release: Release
    champion: str
    rules: int = RULES
    phase: Phase = "Pending"
    step: int = -1
    traffic: Traffic = field(default_factory=lambda: Traffic({}))
    dropped: Mapping[str, str] = field(default_factory=dict)
    started_at: datetime | None = None
    step_started_at: datetime | None = None
    updated_at: datetime | None = None
    paused_at: datetime | None = None
    dropped_at: datetime | None = None
    blocked_since: datetime | None = None
    step_base: Mapping[str, int] = field(default_factory=dict)
    requests: Mapping[str, Counts] = field(default_factory=dict)
    window: Mapping[str, Counts] = field(default_factory=dict)
    outage: Mapping[str, Counts] = field(default_factory=dict)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    ratio: Ratio = Ratio()
    alert: str | None = None

    @property
    def live(self) -> bool:
        return self.phase not in FINISHED

    @property
    def weights(self) -> Mapping[str, int]:
        return self.traffic.weights

    @property
    def candidates(self) -> tuple[str, ...]:
        """Candidates that are still in."""
        return tuple(version for version in self.release.candidates if version not in self.dropped)

    @property
    def enrolled_until(self) -> datetime | None:
        """After which an experiment enrols no unit; put off by as long as a pause before it will have lasted.

        None before the start, and of all other strategies.
        """
        strategy, begun = self.release.strategy, self.step_started_at
        return (
            None if begun is None or not isinstance(strategy, Experiment) else begun + strategy.max_duration
        )

    @property
    def enrolment_paused(self) -> bool:
        """Whether a pause puts that off: it began before."""
        until = self.enrolled_until
        return until is not None and self.paused_at is not None and self.paused_at < until

    def seen(self, version: str) -> Counts:
        """Requests of a version at the last look."""
        return self.requests.get(version, Counts())

    def key(self, check: str, version: str) -> str:
        """Where the memory of a check of a candidate lies."""
        return check if self.release.candidates == (version,) else f"{check}@{version}"


def initial(release: Release, champion: str, rules: int = RULES) -> ReleaseState:
    """The state before the first decision; the champion has all the traffic."""
    return ReleaseState(release=release, champion=champion, rules=rules, traffic=all_to(champion))


def recounted(state: ReleaseState) -> ReleaseState:
    """After the wire showed other weights than the decided: what was counted of this step cannot test them."""
    return state if state.rules == 1 else replace(state, ratio=Ratio(state.ratio.settled, ()))


_TIMES = ("started_at", "step_started_at", "updated_at", "paused_at", "dropped_at", "blocked_since")
_COUNTS = ("requests", "window", "outage")


def to_json(state: ReleaseState) -> dict[str, Any]:
    """Plain values, without the release's document: the journal holds that once."""
    plain = {
        name: getattr(state, name)
        for name in ("champion", "rules", "phase", "step", "dropped", "step_base", "alert")
    }
    plain |= {
        name: None if getattr(state, name) is None else getattr(state, name).isoformat() for name in _TIMES
    }
    plain["traffic"] = traffic_json.to_json(state.traffic)
    for name in _COUNTS:
        plain[name] = {version: asdict(counts) for version, counts in getattr(state, name).items()}
    plain["ratio"] = asdict(state.ratio)
    plain["memory"] = {
        key: {name: value for name, value in asdict(memory).items() if value != _UNUSED[name]}
        for key, memory in state.memory.items()
    }
    return plain


def from_json(plain: Mapping[str, Any], release: Release) -> ReleaseState:
    """The inverse of `to_json`; also reads what the first version of the engine wrote.

    Raises:
        WindlassError: another version of the engine wrote it.
    """
    try:
        return _from_json(plain, release)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WindlassError(
            f"release {release.name!r} of {release.model!r}: its journal holds a state that this version of windlass "
            f"does not know ({type(error).__name__}: {error}); read it with the version that wrote it"
        ) from error


def _from_json(plain: Mapping[str, Any], release: Release) -> ReleaseState:
    fields = dict(plain)
    if "rules" not in fields:
        fields = _from_the_first(fields, release)
    for name in _TIMES:
        fields[name] = None if fields.get(name) is None else datetime.fromisoformat(fields[name])
    fields["traffic"] = traffic_json.from_json(fields["traffic"])
    for name in _COUNTS:
        fields[name] = {version: Counts(**counts) for version, counts in fields.get(name, {}).items()}
    fields["memory"] = {key: _memory(memory) for key, memory in fields["memory"].items()}
    ratio = fields["ratio"]
    base = None if ratio["base"] is None else tuple(ratio["base"])
    fields["ratio"] = Ratio(ratio["settled"], base, tuple(ratio["counts"]))
    return ReleaseState(release=release, **fields)


_UNUSED = asdict(Memory())


def _memory(plain: Mapping[str, Any]) -> Memory:
    told: dict[str, Any] = dict(plain)
    for name in ("comparison", "alone"):
        if name in told:
            found = told[name]
            told[name] = Comparison(_arm_counts(found["seen"]), _guard(found["harm"]), tuple(found["safety"]))
    if told.get("tail") is not None:
        found = told["tail"]
        told["tail"] = Tail(
            **{
                **found,
                "candidate": Slow(**found["candidate"]),
                "champion": Slow(**found["champion"]),
                "harm": _guard(found["harm"]),
                "safety": tuple(found["safety"]),
            }
        )
    for name in ("last", "excused"):
        if name in told:
            told[name] = _arm_counts(told[name])
    if "effect" in told:
        told["effect"] = Evidence.of(told["effect"])
    return Memory(**told)


def _guard(plain: Mapping[str, Any]) -> arms.Guard:
    return arms.Guard(tuple(plain["wealth"]), tuple(plain["spell"]))


def _arm_counts(plain: Mapping[str, Mapping[str, int]]) -> ArmCounts:
    return ArmCounts(Counts(**plain["candidate"]), Counts(**plain["champion"]))


def _from_the_first(fields: dict[str, Any], release: Release) -> dict[str, Any]:
    """The state of a release that began under the first rules: two arms, and no word about spells."""
    told = {name: fields[name] for name in ("champion", "phase", "step", "step_base", "ratio", "alert")}
    told |= {name: fields.get(name) for name in _TIMES}
    told["rules"], told["dropped"] = 1, {}
    told["traffic"] = traffic_json.to_json(Traffic(fields["weights"], fields["mirror_to"]))
    told["requests"] = {
        release.candidate: fields["requests"]["candidate"],
        fields["champion"]: fields["requests"]["champion"],
    }
    told["memory"] = {
        name: {
            "comparison": {
                "seen": held["seen"],
                "harm": {"wealth": held["harm"], "spell": arms.START},
                "safety": held["safety"],
            }
        }
        for name, held in fields["comparisons"].items()
    }
    return told
