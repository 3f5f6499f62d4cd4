"""What a person does to releases from outside the platform's process: apply, command, roll back, read.

Commands wait in a mailbox until a platform carries them out. A rollback does not wait: it moves the traffic on the
proxy itself, so it works with the engine, the registry and every metrics source down; the order it leaves makes
the engine, once it runs, agree.
"""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Any

from serving.release import history, mailbox, spec
from serving.release.engine import Command
from serving.release.envoy import EnvoyBackend, ModelRoute
from serving.release.history import History
from serving.release.mailbox import Order
from serving.release.release import Release
from windlass.clock import Clock
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings


def read(path: Path) -> Release:
    """The Release document in a file.

    Raises:
        UsageError: no such file, or no such document.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"release document {path} cannot be read ({reason}); give a YAML file") from error
    return spec.loads(text)


def apply(settings: Settings, release: Release, clock: Clock) -> dict[str, Any]:
    """Hand a release to the platform."""
    letter = mailbox.submit(mailbox.inbox(settings), release, clock.now())
    running = _proxy_runs(settings)
    return {"release": release.name, "model": release.model, "letter": str(letter), "platform_runs": running}


def command(settings: Settings, model: str, wanted: Command, clock: Clock) -> dict[str, Any]:
    """Leave a command for the platform.

    Raises:
        UsageError: the model has no release that it could concern.
    """
    found = _newest(settings, model)
    if not found.state.live:
        raise UsageError(
            f"{wanted} {model}: its release {found.release.name!r} is over ({found.state.phase}); "
            f"`windlass release rollback {model}` works at any time"
        )
    order = Order(model, wanted, getpass.getuser(), clock.now().isoformat())
    mailbox.order(mailbox.commands(settings), order, clock.now())
    return {
        "model": model,
        "command": wanted,
        "release": found.release.name,
        "platform_runs": _proxy_runs(settings),
    }


def rollback(settings: Settings, model: str, to: str | None, clock: Clock) -> dict[str, Any]:
    """Give all traffic back to the previous version, now.

    While a release is live that is its champion; after a promotion the version before it.

    Raises:
        UsageError: the model or the version is unknown, or there is no previous version.
        WindlassError: no proxy runs.
    """
    backend = EnvoyBackend.attach(settings.run_dir / "envoy")
    if model not in backend.models():
        known = ", ".join(backend.models()) or "none"
        raise UsageError(f"rollback {model}: the proxy serves no such model (known: {known})")
    route = backend.desired(model)
    target = to if to is not None else _previous(model, route)
    if target not in route.servers:
        running = ", ".join(sorted(route.servers)) or "none"
        raise UsageError(
            f"rollback {model}: version {target} has no server (running: {running}); give one of them by --to"
        )
    if not backend.running():
        raise WindlassError(
            f"rollback {model}: Envoy does not answer at {backend.admin.address}; start `windlass up`"
        )
    # the order before the weights: whoever finds the weights changed then also finds why
    order = Order(model, "rollback", getpass.getuser(), clock.now().isoformat(), to=target)
    mailbox.order(mailbox.commands(settings), order, clock.now())
    begun = time.perf_counter()
    backend.set_weights(model, {target: 100})
    seconds = time.perf_counter() - begun
    return {
        "model": model,
        "from": dict(route.weights),
        "to": target,
        "seconds": seconds,
        "weights": {target: 100},
    }


def status(settings: Settings, model: str | None) -> dict[str, Any]:
    """Newest release of each model, or of one."""
    directory = settings.journal_dir / "releases"
    models = history.models(directory) if model is None else [model]
    return {"releases": [_status(_newest(settings, name)) for name in models]}


def explain(settings: Settings, model: str, name: str | None = None) -> dict[str, Any]:
    """Every decision of a release but the holds, and the verdicts on which the newest one rested."""
    found = _newest(settings, model) if name is None else _named(settings, model, name)
    records = list(history.decisions(found.path))
    turns = [
        {key: record[key] for key in ("at", "action", "check", "reason", "weights", "requests")}
        for record in records
        if record["action"] != "hold"
    ]
    return {**_status(found), "decisions": turns, "looks": len(records)}


def _status(found: History) -> dict[str, Any]:
    last = found.last or {}
    current = found.state
    return {
        "release": found.release.name,
        "model": found.release.model,
        "candidate": found.release.candidate,
        "champion": current.champion,
        "phase": current.phase,
        "step": current.step + 1,
        "steps": len(found.release.strategy.steps),
        "weights": dict(current.weights),
        "reason": last.get("reason"),
        "check": last.get("check"),
        "at": last.get("at"),
        "verdicts": last.get("verdicts", []),
    }


def _newest(settings: Settings, model: str) -> History:
    directory = settings.journal_dir / "releases"
    found = history.newest(directory, model)
    if found is None:
        known = ", ".join(history.models(directory)) or "none"
        raise UsageError(
            f"model {model!r} has no release (models that have: {known}); `windlass release apply -f FILE`"
        )
    return found


def _named(settings: Settings, model: str, name: str) -> History:
    files = history.files(settings.journal_dir / "releases", model)
    for _, known, path in files:
        if known == name and (found := history.read(path)) is not None:
            return found
    names = ", ".join(known for _, known, _ in files) or "none"
    raise UsageError(f"model {model!r} has no release {name!r}; known: {names}")


def _previous(model: str, route: ModelRoute) -> str:
    everything = next((version for version, weight in route.weights.items() if weight == 100), None)
    target = route.previous if everything == route.stable else route.stable
    if target is None:
        raise UsageError(f"rollback {model}: no version before {everything} is known; name one by --to")
    return target


def _proxy_runs(settings: Settings) -> bool:
    try:
        return EnvoyBackend.attach(settings.run_dir / "envoy").running()
    except WindlassError:
        return False
