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
from serving.release.journal import history, mailbox
from serving.release.journal.mailbox import Order
from serving.release.people import (
    account,
    diff,
    documents,
    explanation,
    handover,
    outcome,
    past,
    plan,
    running,
)
from serving.release.people.account import Account
from serving.release.people.past import Known
from serving.release.people.running import Platform, on_wire
from serving.release.people.submission import (
    absent,
    apply,
    require_servable,
    require_startable,
    unknown_version,
)
from serving.release.release import Release, strategy_name
from serving.release.rollback import rollback
from windlass.clock import Clock
from windlass.errors import UsageError
from windlass.settings import Settings

__all__ = [
    "Platform",
    "absent",
    "apply",
    "command",
    "compare",
    "explain",
    "explained",
    "find",
    "foresee",
    "newest",
    "news",
    "on_wire",
    "read",
    "require_servable",
    "require_startable",
    "rollback",
    "status",
    "unknown_version",
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


def foresee(settings: Settings, release: Release, known: Known, clock: Clock) -> dict[str, Any]:
    """The plan of a release, with what the platform and earlier releases measured where `known` does not say."""
    measured = Known()
    endpoints = running.backend(settings)
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
    routed, why = running.routed(settings, release.model)
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


# --- meanwhile


def command(
    settings: Settings,
    model: str,
    wanted: Command,
    clock: Clock,
    version: str | None = None,
    platform: Platform | None = None,
) -> dict[str, Any]:
    """Leave a command for the platform.

    Args:
        version: the candidate that is promoted, needed where there are several.
        platform: what runs; None where the caller cannot tell.

    Returns:
        Among others `already`: nothing is left to do, so no letter was left; `notes`, what else waits of the model.

    Raises:
        UsageError: the model has no release that it could concern, or the version is no candidate of it.
    """
    waiting = "; ".join(news(settings, model, None))
    if newest(settings, model) is None and waiting:
        raise UsageError(
            f"{wanted} {model}: no release of it has begun ({waiting}); there is nothing to {wanted} yet"
        )
    found = find(settings, model)
    others = news(settings, model, found)
    if not found.state.live:
        beside = "".join(f"; {other}" for other in others)
        raise UsageError(
            f"{wanted} {model}: its release {found.release.name!r} is over ({found.state.phase}); "
            f"`windlass release rollback {model}` works at any time{beside}"
        )
    if wanted == "promote":
        left = found.state.candidates
        if version is None and len(left) > 1:
            raise UsageError(f"promote {model}: which of {', '.join(left)}? name it by --version")
        if version is not None and version not in left:
            raise UsageError(
                f"promote {model}: --version {version} is no candidate that is in; it has: {', '.join(left)}"
            )
    box = mailbox.commands(settings)
    paused = found.state.phase == "Paused"
    already = (wanted == "pause" and paused) or (wanted == "resume" and not paused)
    # an order that waits may change that before ours is read
    already = already and not any(order.model == model for _, order in mailbox.orders(box))
    if not already:
        order = Order(model, wanted, getpass.getuser(), clock.now().isoformat(), version, found.release.name)
        mailbox.order(box, order, clock.now())
    return {
        "model": model,
        "command": wanted,
        "release": found.release.name,
        "version": version,
        "already": already,
        "phase": found.state.phase,
        "notes": others,
        "platform_runs": running.runs(settings, platform),
    }


def status(settings: Settings, model: str | None, platform: Platform | None = None) -> dict[str, Any]:
    """Newest release of each model, or of one, and what is handed over and has not begun.

    Raises:
        UsageError: nothing is known of the model.
    """
    known = history.models(journals(settings))
    models = sorted({*known, *handover.models(settings)}) if model is None else [model]
    releases, places = [], []
    for name in models:
        place = {"model": name, **handover.plain(settings, name)}
        try:
            releases.append(standing(settings, find(settings, name)))
        except UsageError:
            if model is not None and not (place["inbox"] or place["refused"] or place["queued"]):
                raise
        if place["inbox"] or place["refused"] or place["queued"]:
            places.append(place)
    return {"releases": releases, "handed_over": places, "platform_runs": running.runs(settings, platform)}


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
        **handover.plain(settings, release.model),
        "notes": news(settings, release.model, told),
    }


def news(settings: Settings, model: str, told: Account | None) -> list[str]:
    """What a person who looks at a release should know of the model's later ones."""
    return [found.sentence for found in handover.news(settings, model, told)]


# --- after


def explain(settings: Settings, model: str, name: str | None = None) -> dict[str, Any]:
    """Which check decided on which evidence, every decision but the holds, and all that happened."""
    return explained(settings, find(settings, model, name))


def explained(settings: Settings, told: Account) -> dict[str, Any]:
    """Where a release stands, and why."""
    return {**standing(settings, told), **explanation.explain(told)}


def newest(settings: Settings, model: str) -> Account | None:
    """The model's newest release that has a journal; None where none has."""
    try:
        return find(settings, model)
    except UsageError:
        return None


def find(settings: Settings, model: str, name: str | None = None) -> Account:
    """The model's release of that name, its newest without one.

    Raises:
        UsageError: there is none.
    """
    return account.find(journals(settings), model, name)


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
