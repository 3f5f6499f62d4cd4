"""What a person does to releases from outside the platform's process: apply, command, roll back, read.

Commands wait in a mailbox until a platform carries them out. A rollback does not wait (see `rollback.py`).
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from serving.release import spec
from serving.release import traffic as traffic_json
from serving.release.engine import Command
from serving.release.envoy import EnvoyBackend
from serving.release.journal import history, mailbox
from serving.release.journal.mailbox import Order
from serving.release.journal.store import DiskStore
from serving.release.people import account, diff, documents, explanation, outcome, past, plan
from serving.release.people.account import Account
from serving.release.people.past import Known
from serving.release.reading import Problem, SpecError
from serving.release.release import Release, strategy_name
from serving.release.rollback import rollback
from windlass.clock import Clock
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

__all__ = [
    "absent",
    "apply",
    "command",
    "compare",
    "explain",
    "explained",
    "find",
    "foresee",
    "read",
    "require_startable",
    "rollback",
    "status",
]


def read(path: Path) -> Release:
    """The Release document in a file.

    Raises:
        UsageError: no such file, or no such document.
    """
    return spec.loads(documents.read(path))


def journals(settings: Settings) -> Path:
    return settings.journal_dir / "releases"


# --- before


def require_startable(settings: Settings, release: Release) -> None:
    """Raise where it can be seen now that a platform would refuse the release.

    Raises:
        UsageError: another release of the model is live and this one does not queue, or its name is taken.
    """
    store = DiskStore(journals(settings))
    entries = store.entries(release.model)
    if not entries:
        return
    newest = history.newest(store.directory, release.model)
    live = newest is not None and newest.state.live
    if newest is not None and live and newest.release == release:
        return  # the same once more goes on
    if newest is not None and live and release.on_conflict == "refuse":
        raise UsageError(
            f"spec.onConflict = 'refuse': release {newest.release.name!r} of {release.model!r} is live "
            f"({newest.state.phase}); wait for it (`windlass release wait {release.model}`), abort it, or set "
            "spec.onConflict: queue"
        )
    if any(entry.name == release.name for entry in entries):
        same = newest is not None and live and newest.release.name == release.name
        taken = "is live with another document" if same else "is over"
        raise UsageError(
            f"metadata.name = {release.name!r}: this release of {release.model!r} {taken}; "
            "give the new one another name"
        )


def absent(settings: Settings, release: Release) -> list[str]:
    """Candidates without a bundle on this disk, where the model has bundles here at all.

    Only a local release serves from this disk, and where there is no bundle of the model it may be another disk's.
    """
    folder = settings.bundles_dir / release.model
    if release.backend != "local" or not folder.is_dir():
        return []
    return [v for v in release.candidates if not (folder / v / "serving.json").is_file()]


def unknown_version(settings: Settings, release: Release, version: str) -> SpecError:
    """The refusal of a candidate that is nowhere."""
    folder = settings.bundles_dir / release.model
    here = ", ".join(sorted(path.parent.name for path in folder.glob("*/serving.json"))) or "none"
    path = "spec.candidate"
    if len(release.candidates) > 1 or strategy_name(release.strategy) in ("experiment", "bandit"):
        path = f"spec.candidates[{release.candidates.index(version)}]"
    remedy = (
        f"model {release.model} has no such version (it has: {here}); name one of these, or train it first"
    )
    return SpecError(f"release {release.name!r}", [Problem(path, repr(version), remedy)])


def foresee(settings: Settings, release: Release, known: Known, clock: Clock) -> dict[str, Any]:
    """The plan of a release, with what the platform and earlier releases measured where `known` does not say."""
    measured = Known()
    endpoints = _backend(settings)
    if endpoints is not None:
        log = endpoints.endpoints.access_log
        measured = past.measured(log, release.model, clock.now().timestamp())
    baselines = dict(measured.baselines)
    for check in release.checks:
        found = past.baseline(journals(settings), release.model, check)
        if found is not None:
            baselines[check.name] = found
    rate = known if known.per_second is not None else measured
    merged = Known(rate.per_second, rate.rate_source, {**baselines, **known.baselines})
    return plan.plan(release, release.champion or _champion(settings, release.model), merged)


def compare(settings: Settings, release: Release) -> dict[str, Any]:
    """The document against the model's newest release, and against what is routed now."""
    newest = history.newest(journals(settings), release.model)
    changes = diff.changes(None if newest is None else newest.release, release)
    routed, why = _routed(settings, release.model)
    return {
        "release": release.name,
        "model": release.model,
        "against": None if newest is None else newest.release.name,
        "phase": None if newest is None else newest.state.phase,
        "changes": [{"path": c.path, "from": c.before, "to": c.after} for c in changes],
        "routed": routed,
        "routed_unknown": why,
        "begins_with": _first_weights(release, _champion(settings, release.model)),
    }


def apply(settings: Settings, release: Release, clock: Clock) -> dict[str, Any]:
    """Hand a release to the platform.

    Raises:
        UsageError: it can be seen now that it would be refused.
    """
    require_startable(settings, release)
    letter = mailbox.submit(mailbox.inbox(settings), release, clock.now())
    running = _proxy_runs(settings)
    return {"release": release.name, "model": release.model, "letter": str(letter), "platform_runs": running}


# --- meanwhile


def command(
    settings: Settings, model: str, wanted: Command, clock: Clock, version: str | None = None
) -> dict[str, Any]:
    """Leave a command for the platform.

    Args:
        version: the candidate that is promoted, needed where there are several.

    Raises:
        UsageError: the model has no release that it could concern, or the version is no candidate of it.
    """
    found = find(settings, model)
    if not found.state.live:
        raise UsageError(
            f"{wanted} {model}: its release {found.release.name!r} is over ({found.state.phase}); "
            f"`windlass release rollback {model}` works at any time"
        )
    if wanted == "promote":
        left = found.state.candidates
        if version is None and len(left) > 1:
            raise UsageError(f"promote {model}: which of {', '.join(left)}? name it by --version")
        if version is not None and version not in left:
            raise UsageError(
                f"promote {model}: --version {version} is no candidate that is in; it has: {', '.join(left)}"
            )
    order = Order(model, wanted, getpass.getuser(), clock.now().isoformat(), version, found.release.name)
    mailbox.order(mailbox.commands(settings), order, clock.now())
    return {
        "model": model,
        "command": wanted,
        "release": found.release.name,
        "version": version,
        "platform_runs": _proxy_runs(settings),
    }


def status(settings: Settings, model: str | None) -> dict[str, Any]:
    """Newest release of each model, or of one."""
    models = history.models(journals(settings)) if model is None else [model]
    return {"releases": [standing(settings, find(settings, name)) for name in models]}


def standing(settings: Settings, told: Account) -> dict[str, Any]:
    """Where a release stands."""
    last, state, release = told.last or {}, told.state, told.release
    return {
        "release": release.name,
        "model": release.model,
        "strategy": strategy_name(release.strategy),
        "candidate": release.candidate,
        "candidates": list(release.candidates),
        "dropped": dict(state.dropped),
        "champion": state.champion,
        "phase": state.phase,
        "outcome": outcome.of(told.history),
        "step": state.step + 1,
        "steps": account.steps(release),
        "weights": dict(state.weights),
        "traffic": traffic_json.to_json(state.traffic),
        "in_force": told.history.unconfirmed is None,
        "reason": last.get("reason"),
        "check": last.get("check"),
        "at": last.get("at"),
        "since": explanation.since(told),
        "next": explanation.waits_for(told),
        "alert": state.alert if state.live else None,
        "requests": {version: counts.n for version, counts in state.requests.items()},
        "verdicts": told.verdicts,
        "queued": [name for name, _ in DiskStore(journals(settings)).queued(release.model)],
    }


# --- after


def explain(settings: Settings, model: str, name: str | None = None) -> dict[str, Any]:
    """Which check decided on which evidence, every decision but the holds, and all that happened."""
    return explained(settings, find(settings, model, name))


def explained(settings: Settings, told: Account) -> dict[str, Any]:
    """Where a release stands, and why."""
    return {**standing(settings, told), **explanation.explain(told)}


def find(settings: Settings, model: str, name: str | None = None) -> Account:
    """The model's release of that name, its newest without one.

    Raises:
        UsageError: there is none.
    """
    return account.find(journals(settings), model, name)


# --- what runs


def _backend(settings: Settings) -> EnvoyBackend | None:
    try:
        return EnvoyBackend.attach(settings.run_dir / "envoy")
    except WindlassError:
        return None


def _proxy_runs(settings: Settings) -> bool:
    backend = _backend(settings)
    return backend is not None and backend.running()


def _routed(settings: Settings, model: str) -> tuple[dict[str, Any] | None, str | None]:
    """The traffic on the wire, or why it is not known."""
    backend = _backend(settings)
    if backend is None or not backend.running():
        return None, "no platform runs here"
    try:
        found = backend.traffic(model)
    except WindlassError as error:
        return None, str(error)
    return (None, "the model has no route") if found is None else (traffic_json.to_json(found), None)


def _champion(settings: Settings, model: str) -> str | None:
    """Who holds all the traffic after the model's newest release; None where that is not known here."""
    newest = history.newest(journals(settings), model)
    if newest is None:
        return None
    if newest.state.phase == "Promoted":
        return next(iter(newest.state.weights), newest.state.champion)
    return newest.state.champion


def _first_weights(release: Release, champion: str | None) -> dict[str, int]:
    first = plan.steps_of(release, release.champion or champion or "the champion", None)[0]
    return dict(first["weights"])
