"""Where a version comes from and what became of it: signal -> trigger -> data -> run -> version -> gates -> release ->
outcome -> what replaced it.

Nothing is kept for this: each link is what its own journal, the registry or a run's result says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.registry import Registry, VersionInfo
from monitoring.data_versions import version as data_versions
from monitoring.retrain import journal as triggers
from serving.release.journal import history
from windlass.errors import UsageError, WindlassError
from windlass.journal import read
from windlass.settings import Settings


@dataclass(frozen=True)
class Link:
    """One link of the chain.

    Attributes:
        kind: signal, trigger, data, run, version, gate, release, outcome, replacedBy or rebuiltAs.
        id: what names it where it comes from.
        at: ISO time; None where it has none.
        detail: JSON values.
    """

    kind: str
    id: str
    at: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "id": self.id, "at": self.at, "detail": dict(self.detail)}


@dataclass(frozen=True)
class Lineage:
    """The chain of one version, or of a trigger that made none (`version` None then).

    Attributes:
        open: triggers of the model whose outcome is not known yet.
    """

    model: str
    version: str | None
    chain: tuple[Link, ...]
    open: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        chain = [link.plain() for link in self.chain]
        return {"model": self.model, "version": self.version, "chain": chain, "open": list(self.open)}


def of_version(settings: Settings, model: str, version: str | None) -> Lineage:
    """The chain of a version, None for the champion.

    Raises:
        UsageError: there is no such version; the known ones are named.
    """
    known = Registry(settings).versions(model)
    if version is None:
        found = next((v for v in known if "champion" in v.aliases), None)
        if found is None:
            raise UsageError(f"model {model!r} has no champion; name one of its versions: {_names(known)}")
    else:
        found = next((v for v in known if v.version == version), None)
        if found is None:
            raise UsageError(f"model {model!r} has no version {version!r}; it has: {_names(known)}")
    records = _records(settings, model)
    runs = [*dict.fromkeys([found.run_id, *(r["id"] for r in records if _version_of(r) == found.version)])]
    chain = [link for run in runs if run for link in _of_run(settings, model, run, records)]
    chain.append(_version(found))
    chain += _forward(settings, model, found.version, records, known)
    return Lineage(model, found.version, tuple(chain), _open(settings, model))


def of_run(settings: Settings, model: str, run: str) -> Lineage:
    """The chain of the version that a run, or the run of a trigger, made; as far as it came where it made none.

    Raises:
        UsageError: neither the journal nor the registry knows it; the known ones are named.
    """
    records = _records(settings, model)
    made = next((v for r in records if r["id"] == run and (v := _version_of(r))), None)
    known = Registry(settings).versions(model)
    made = made or next((v.version for v in known if v.run_id == run), None)
    if made is not None and any(v.version == made for v in known):
        return of_version(settings, model, made)
    if not any(r["id"] == run and r["event"] == "accepted" for r in records):
        names = [r["id"] for r in records if r["event"] == "accepted"] + [v.run_id for v in known]
        told = ", ".join(dict.fromkeys(n for n in names if n)) or "none"
        raise UsageError(f"model {model!r} has no run or trigger {run!r}; it has: {told}")
    chain = _of_run(settings, model, run, records)
    chain += [_outcome(r) for r in records if r["event"] == "resolved" and r["id"] == run]
    return Lineage(model, made, tuple(chain), _open(settings, model))


# --- back


def _of_run(settings: Settings, model: str, run: str, records: list[dict[str, Any]]) -> list[Link]:
    """Signal, trigger, data and run."""
    links: list[Link] = []
    accepted = next((r for r in records if r["event"] == "accepted" and r["id"] == run), None)
    own = [r for r in records if r["id"] == run]
    if accepted is not None:
        cause = accepted["cause"]
        same = [r for r in records if r["event"] == "refused" and r["cause"] == cause]
        links.append(
            Link(
                "signal",
                cause,
                accepted["signal_at"],
                {
                    "kind": accepted["kind"],
                    "champion": accepted.get("champion"),
                    "evidence": accepted["detail"],
                    "heard_again": len(same),
                    "held_before": sum(1 for r in same if r.get("held")),
                },
            )
        )
        links.append(
            Link("trigger", run, accepted["at"], {"rule": accepted["rule"], "reason": accepted["reason"]})
        )
    result, ended = _result(settings, run)
    registered = next((v for v in Registry(settings).versions(model) if v.run_id == run), None)
    tags = {} if registered is None else registered.tags
    data = _data(settings, model, result, tags)
    if data is not None:
        links.append(data)
    submitted = next((r for r in own if r["event"] == "submitted"), None)
    closed = next((r for r in own if r["event"] in ("finished", "resolved")), None)
    if accepted is not None or result is not None or registered is not None:
        detail = {
            "reference": None if submitted is None else submitted.get("run"),
            "state": _state(submitted, closed, result or registered),
            "seconds": (closed or {}).get("seconds") or (result or {}).get("seconds"),
            "error": (closed or {}).get("error"),
        }
        links.append(Link("run", run, submitted["at"] if submitted is not None else ended, _told(detail)))
    links += _gates(run, result, closed)
    return links


def _result(settings: Settings, run: str) -> tuple[dict[str, Any] | None, str | None]:
    """What a run on this machine says of itself, and when it was written."""
    path: Path = settings.runs_dir / run / "result.json"
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return content, datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
    except (FileNotFoundError, NotADirectoryError):
        return None, None


def _data(
    settings: Settings, model: str, result: Mapping[str, Any] | None, tags: Mapping[str, str]
) -> Link | None:
    window = (result or {}).get("window") or {}
    detail = {
        "from": window.get("from") or tags.get("window_from"),
        "to": window.get("to") or tags.get("window_to"),
        "source_hash": tags.get("source_hash"),
    }
    named = tags.get("data_version") or (result or {}).get("data_version")
    if named is not None:
        found = next((v for v in data_versions.versions(settings, model) if v.id == named), None)
        return Link("data", named, None, _told({**detail, "rows": None if found is None else found.rows}))
    if not any(detail.values()):
        return None
    return Link("data", tags.get("data_hash", "built-in"), None, _told(detail))


def _gates(run: str, result: Mapping[str, Any] | None, closed: Mapping[str, Any] | None) -> list[Link]:
    told = (result or {}).get("gates")
    at = None if closed is None else closed["at"]
    if told:
        return [
            Link(
                "gate",
                gate["check"],
                at,
                _told({k: gate.get(k) for k in ("passed", "value", "bound", "detail")}),
            )
            for gate in told
        ]
    kept = (closed or {}).get("gates") or {}
    return [Link("gate", name, at, {"passed": passed}) for name, passed in kept.items()]


def _state(submitted: object, closed: Mapping[str, Any] | None, result: object) -> str:
    if closed is not None:
        return "failed" if closed.get("error") else "succeeded"
    if result is not None:
        return "succeeded"
    return "accepted" if submitted is None else "submitted"


def _version(found: VersionInfo) -> Link:
    detail = {
        "state": found.state,
        "aliases": list(found.aliases),
        "auc": found.offline_auc if found.offline_auc == found.offline_auc else None,
        "trained_from": found.trained_from or None,
        "trained_to": found.trained_to or None,
        "compared_with": found.tags.get("compared_with") or None,
        "passed_gates": found.tags.get("passed"),
        "git_commit": found.tags.get("git_commit"),
    }
    return Link("version", found.version, None, _told(detail))


# --- forward


def _forward(
    settings: Settings, model: str, version: str, records: list[dict[str, Any]], known: Iterable[VersionInfo]
) -> list[Link]:
    links: list[Link] = []
    after: list[Link] = []
    for _, _, file in history.files(settings.journal_dir / "releases", model):
        found = history.read(file)
        if found is None:
            continue
        ended = None if found.last is None else found.last.get("at")
        first = next(r for r in history.records(file) if r["kind"] == "release")
        if version in found.release.candidates:
            told = {name: (found.last or {}).get(name) for name in ("reason", "check")}
            detail = {"phase": found.state.phase, "champion": first["champion"], **told}
            links.append(Link("release", found.release.name, first["at"], _told(detail)))
        elif found.state.phase == "Promoted" and first["champion"] == version:
            # the journal of a release says whom it took the place of
            winner = max(found.release.candidates, key=lambda v: found.state.weights.get(v, 0))
            after.append(Link("replacedBy", winner, ended, {"release": found.release.name}))
    links += [_outcome(r) for r in records if r["event"] == "resolved" and _version_of(r) == version]
    if not after:
        rebuilt = [v.version for v in known if v.tags.get("rebuild_of") == version]
        links += [Link("rebuiltAs", name, None, {}) for name in rebuilt]
    return links + after


def _outcome(record: Mapping[str, Any]) -> Link:
    return Link(
        "outcome", record["id"], record["at"], {"helped": record["helped"], "reason": record["reason"]}
    )


# --- parts


def _records(settings: Settings, model: str) -> list[dict[str, Any]]:
    path = triggers.path(settings)
    try:
        return [r for r in read(path) if r["workload"] == model]
    except (ValueError, KeyError, TypeError) as error:
        raise WindlassError(
            f"journal {path} cannot be read: a line is no record ({type(error).__name__}: {error}); restore the file "
            "from a copy, or move it away"
        ) from error


def _version_of(record: Mapping[str, Any]) -> str | None:
    if record["event"] not in ("finished", "resolved") or not record.get("version"):
        return None
    return str(record["version"])


def _open(settings: Settings, model: str) -> tuple[str, ...]:
    return tuple(t.id for t in triggers.history(triggers.path(settings), model) if t.helped is None)


def _names(known: Iterable[VersionInfo]) -> str:
    return ", ".join(v.version for v in known) or "none"


def _told(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known."""
    return {name: value for name, value in detail.items() if value is not None}
