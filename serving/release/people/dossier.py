"""Everything that a report shows of one release, as plain values: the report's page knows nothing of the engine.

Each value is read from the journal, so a report of a release that ended a year ago says what was known then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.release import spec
from serving.release.effects import NOVELTY
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.people import earnings, explanation, outcome, queries, words
from serving.release.people.account import Account
from serving.release.release import Check, Experiment, strategy_name
from serving.release.statistics.moments import Moments


def dossier(told: Account) -> dict[str, Any]:
    """The report's contents.

    Returns:
        The release's names; `outcome`, `headline`, `sentence` and `deciding` (see `explanation.explain`); `weights`,
        what was decided from when on; `checks`, one for each check and version with its `verdicts` over time;
        `effects`, `periods` and `earnings` of rewards; `decisions`, `holds`, `events`; `document`; `journal`, the
        records themselves.
    """
    found = explanation.explain(told)
    state, release = told.state, told.release
    last = told.newest_evidence()
    return {
        "release": release.name,
        "model": release.model,
        "strategy": strategy_name(release.strategy),
        "backend": release.backend,
        "champion": state.champion,
        "candidates": list(release.candidates),
        "phase": state.phase,
        "outcome": outcome.of(told.history),
        "headline": words.headline(state, outcome.of(told.history), told.told - told.began),
        "sentence": found["sentence"],
        "reason": None if (record := explanation.deciding(told)) is None else record["reason"],
        "deciding": found["deciding"],
        "began": told.began.isoformat(),
        "ended": told.told.isoformat(),
        "lasted": words.rough(told.told - told.began),
        "requests": {version: state.seen(version).n for version in (state.champion, *release.candidates)},
        "looks": found["looks"],
        "weights": [
            {"at": record["at"], "weights": dict(record["weights"]), "mirror_to": record["mirror_to"]}
            for record in told.decisions
            if record["acts"]
        ],
        "dropped": dict(state.dropped),
        "checks": list(_checks(told)),
        "effects": list(_effects(told, last)),
        "periods": list(_periods(told, last)),
        "earnings": earnings.table(told),
        "decisions": found["decisions"],
        "holds": found["holds"],
        "events": found["events"],
        "document": spec.document(release),
        "journal": list(told.records),
    }


def _checks(told: Account) -> Iterator[dict[str, Any]]:
    """Each check of each version with what it said over time; the engine's own checks come last."""
    series: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    kinds: dict[str, str] = {}
    for record in told.decisions:
        for verdict in record["verdicts"]:
            kinds[verdict["check"]] = verdict["kind"]
            looks = series.setdefault((verdict["check"], verdict.get("version")), [])
            looks.append({"at": record["at"], **verdict})
    for (name, version), looks in series.items():
        check = next((c for c in told.release.checks if c.name == name), None)
        asked = version or told.release.candidate
        yield {
            "name": name,
            "version": version,
            "kind": kinds[name],
            "metric": None if check is None else check.metric,
            "source": None if check is None else check.source,
            "measures": _measures(name) if check is None else words.what(check),
            "percent": check.metric not in ("brier", "scoreDistance")
            if check is not None
            else name == NOVELTY,
            "signed": check is None or words.compares(check),
            "query": None if check is None else queries.query(told.release, check, asked),
            "rule": looks[-1]["rule"],
            "outcome": looks[-1]["outcome"],
            "reason": looks[-1]["reason"],
            "verdicts": looks,
        }


def _measures(name: str) -> str:
    if name == NOVELTY:
        return "change of the lift from the first period to the later ones"
    return "that the versions got their shares of the requests"


# --- rewards


def _effects(told: Account, last: Evidence | None) -> Iterator[dict[str, Any]]:
    """The final numbers of each reward and candidate: both arms, the lift, its interval, e- and p-value."""
    for check in _rewards(told):
        for version in told.release.candidates:
            verdict = told.verdict(check.name, version)
            if verdict is None:
                continue
            ours, theirs = (_outcomes(last, v, check) for v in (version, told.state.champion))
            yield {
                "check": check.name,
                "kind": check.kind,
                "version": version,
                "champion": told.state.champion,
                "value_type": check.value_type,
                "n": {version: ours.n, told.state.champion: theirs.n},
                "means": {version: _mean(check, ours), told.state.champion: _mean(check, theirs)},
                "lift": verdict["estimate"],
                "lower": verdict["lower"],
                "upper": verdict["upper"],
                "outcome": verdict["outcome"],
                "evidence": verdict["evidence"],
                "p_value": _p_value(told, check, version),
                "alpha": check.alpha / len(told.release.candidates),
            }


def _p_value(told: Account, check: Check, version: str) -> float | None:
    """Anytime-valid and two-sided: the smallest 2 / e so far (Ville's inequality); None without a look."""
    values = [
        verdict["evidence"]
        for record in told.decisions
        for verdict in record["verdicts"]
        if verdict["check"] == check.name and verdict.get("version") == version and verdict["evidence"]
    ]
    return min(1.0, 2 / max(values)) if values else None


def _periods(told: Account, last: Evidence | None) -> Iterator[dict[str, Any]]:
    """Rewards by period of the first exposure, of an experiment."""
    strategy = told.release.strategy
    if not isinstance(strategy, Experiment) or last is None:
        return
    for check in _rewards(told):
        if check.kind != "decision":
            continue
        arms = {v: last.arms.get(v, ArmEvidence()).periods.get(check.name, ()) for v in _versions(told)}
        for index in range(max((len(periods) for periods in arms.values()), default=0)):
            found = {v: periods[index] for v, periods in arms.items() if index < len(periods)}
            began = told.began + index * strategy.period
            yield {
                "check": check.name,
                "from": began.isoformat(),
                "to": (began + strategy.period).isoformat(),
                "n": {version: moments.n for version, moments in found.items()},
                "means": {version: _mean(check, moments) for version, moments in found.items()},
            }


def _rewards(told: Account) -> list[Check]:
    return [check for check in told.release.checks if check.metric == "reward"]


def _versions(told: Account) -> tuple[str, ...]:
    return (told.state.champion, *told.release.candidates)


def _outcomes(evidence: Evidence | None, version: str, check: Check) -> Moments:
    arm = ArmEvidence() if evidence is None else evidence.arms.get(version, ArmEvidence())
    return arm.outcomes.get(check.name, Moments())


def _mean(check: Check, moments: Moments) -> float | None:
    below = moments.z if check.value_type == "ratio" else moments.n
    return moments.y / below if below > 0 else None
