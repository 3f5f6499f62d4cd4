"""`windlass release rollback`: all traffic back to the version before, now, whatever else is down.

It needs the routing file, a model server and Envoy, and nothing else: no engine, no registry, no feature store, no
metrics. What of these three is dead is started first, by whoever knows how (`Plane`). Then an order is left, so that an
engine that runs, or comes back, agrees; then one change of the routes moves everything.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from serving.release.envoy.backend import EnvoyBackend, ModelRoute
from serving.release.envoy.config import addresses
from serving.release.envoy.files import EnvoyFiles
from serving.release.journal import mailbox
from serving.release.journal.mailbox import Order
from serving.release.journal.store import DiskStore
from serving.release.traffic import all_to
from windlass import journal
from windlass.clock import Clock
from windlass.errors import UsageError, WindlassError
from windlass.journal import Journal
from windlass.settings import Settings

#: Whoever else rolls back may have to start a server first.
TURN_S = 120.0
#: A change of the routes takes milliseconds, and at most twice the time in which Envoy must confirm it.
CHANGE_S = 10.0
#: An engine looks once a second.
AGREE_S = 3.0

#: Phases of a release that is over, as they stand in journals (`state.FINISHED`, whose import costs more than all else
#: that is done here).
_OVER = ("Promoted", "RolledBack", "Aborted")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class _Told(NamedTuple):
    """A release as its journal tells it; `at` is the time of the last decision, ISO 8601."""

    champion: str
    candidates: tuple[str, ...]
    phase: str
    at: str


class Plane(Protocol):
    """Whoever can start what a rollback finds dead."""

    def exists(self) -> bool:
        """Whether requests are meant to be answered on this home, and dead processes to be started."""
        ...

    def engine_runs(self) -> bool: ...

    def fetch(self, model: str, version: str) -> None:
        """Bring a version's bundle from the registry.

        Raises:
            UsageError: the registry has no such version.
            WindlassError: the registry does not answer.
        """
        ...

    def ensure_server(self, model: str, version: str, known: str | None) -> tuple[str, bool]:
        """`host:port` of a version's server that answers, and whether it had to be started; `known` is asked first."""
        ...

    def ensure_proxy(self) -> bool:
        """Whether Envoy had to be started; it takes the ports and the routes that are on disk."""
        ...


def rollback(settings: Settings, model: str, to: str | None, clock: Clock, plane: Plane) -> dict[str, Any]:
    """Give all traffic to the version before, or to `to`; the same again changes nothing.

    While a release is live that is its champion; after a promotion the version before it.

    Returns:
        "model", "from" (the weights before), "to", "weights"; "seconds" from the call to the routes being in force;
        "started": whether the version's server, or Envoy, had to be started; "engine_runs": whether an engine hears of
        it now; "serving": False where the platform was ended in order, so that it takes effect at its next start.

    Raises:
        UsageError: the model or the version is unknown, or there is no version before.
        WindlassError: no platform was ever started, or something that is needed cannot be started.
    """
    begun = time.perf_counter()
    files = EnvoyFiles(settings.run_dir / "envoy")
    endpoints = files.endpoints()
    with _alone(settings.run_dir / "rollback.lock"):
        models = files.desired().models
        if model not in models:
            raise UsageError(
                f"rollback {model}: the proxy serves no such model (known: {', '.join(sorted(models)) or 'none'})"
            )
        route = models[model]
        target = to if to is not None else _previous(settings, model, route)
        _require_known(settings, model, target, route, plane)
        backend = EnvoyBackend.attach(settings.run_dir / "envoy")
        lives = backend.running()
        started = False
        serving = lives or plane.exists()
        if serving:
            address, started = _server(model, target, route, plane)
            _require_free_hands(files, plane)
            # a proxy that is dead is told by its files, so that it never serves the routes that it died with
            told = backend if lives else EnvoyBackend(files.directory, endpoints)
            told.set_server(model, target, address)
            if lives:
                _require_cluster(backend, files)
            # the order before the weights: whoever finds the weights changed then also finds why
            letter = _order(settings, model, target, route, clock)
            told.set_weights(model, {target: 100})
            if not lives:
                started = plane.ensure_proxy() or started
                backend = EnvoyBackend.attach(files.directory)
                backend.set_weights(model, {target: 100})
            seconds = time.perf_counter() - begun
            if plane.engine_runs():
                _insist(backend, model, target, letter)
        else:
            _order(settings, model, target, route, clock)
            seconds = time.perf_counter() - begun
    return {
        "model": model,
        "from": dict(route.weights),
        "to": target,
        "seconds": seconds,
        "weights": {target: 100},
        "started": started,
        "engine_runs": plane.engine_runs(),
        "serving": serving,
    }


def path(settings: Settings) -> Path:
    """The journal of every rollback that a person asked for: {"at", "by", "model", "from", "to"}."""
    return settings.journal_dir / "rollbacks.jsonl"


def withdrawn(settings: Settings, model: str) -> set[str]:
    """Versions that a release or a person took off traffic and that no release promoted since.

    Releasing one of them once more is a person's decision, not a pipeline's.
    """
    turns: list[tuple[str, str, bool]] = []
    for record in journal.read(path(settings)):
        if record["model"] == model:
            turns += [(record["at"], v, True) for v in record["from"] if v != record["to"]]
            turns.append((record["at"], record["to"], False))
    for told in _releases(settings, model):
        if told.phase in ("RolledBack", "Promoted"):
            turns += [(told.at, v, told.phase == "RolledBack") for v in told.candidates]
        if told.phase == "RolledBack":
            turns.append((told.at, told.champion, False))
    gone: set[str] = set()
    for _, version, out in sorted(turns):
        (gone.add if out else gone.discard)(version)
    return gone


# --- which version


def _previous(settings: Settings, model: str, route: ModelRoute) -> str:
    releases = _releases(settings, model)
    if releases and releases[-1].phase not in _OVER:
        return releases[-1].champion
    everything = next((version for version, weight in route.weights.items() if weight == 100), None)
    target = route.stable
    if everything is not None and route.traffic == all_to(everything):
        if _rolled_back_to(settings, model, releases) == everything:
            return everything
        if everything == route.stable:
            target = route.previous
        if target is None:
            made_it = [r for r in releases if r.phase == "Promoted" and everything in r.candidates]
            target = made_it[-1].champion if made_it else None
    if target is None:
        raise UsageError(f"rollback {model}: no version before {everything} is known; name one by --to")
    return target


def _rolled_back_to(settings: Settings, model: str, releases: list[_Told]) -> str | None:
    """Where the last rollback went, if nothing was promoted since: once more is not one further back."""
    mine = [record for record in journal.read(path(settings)) if record["model"] == model]
    if not mine:
        return None
    last = mine[-1]
    since = any(r.phase == "Promoted" and r.at > last["at"] for r in releases)
    return None if since else str(last["to"])


def _releases(settings: Settings, model: str) -> list[_Told]:
    """What the journals say of each release, oldest first.

    The records are read as they lie: a journal that the engine of today does not understand must not stop a rollback.
    """
    found = []
    store = DiskStore(settings.journal_dir / "releases")
    for entry in store.entries(model):
        champion: str | None = None
        candidates: tuple[str, ...] = ()
        phase, at = "Pending", ""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            for record in store.records(entry):
                if record["kind"] == "release":
                    wanted = record["document"]["spec"]
                    candidates = tuple(wanted.get("candidates") or [wanted["candidate"]])
                    champion, at = record["champion"], record["at"]
                elif record["kind"] == "decision":
                    phase, at = record["state"]["phase"], record["at"]
        if champion is not None:
            found.append(_Told(champion, candidates, phase, at))
    return found


def _require_known(settings: Settings, model: str, version: str, route: ModelRoute, plane: Plane) -> None:
    if version in route.servers:
        return
    if not _NAME.fullmatch(version):
        raise UsageError(f"rollback {model}: --to {version!r} is no version")
    if (settings.bundles_dir / model / version / "serving.json").is_file():
        return
    try:
        plane.fetch(model, version)
    except UsageError as error:
        here = sorted(p.parent.name for p in (settings.bundles_dir / model).glob("*/serving.json"))
        known = ", ".join(sorted({*route.servers, *here})) or "none"
        raise UsageError(
            f"rollback {model}: version {version} has no server, no bundle on this disk and no place in the registry; "
            f"name one of these by --to: {known}"
        ) from error


# --- what must live


def _server(model: str, version: str, route: ModelRoute, plane: Plane) -> tuple[str, bool]:
    known = route.servers.get(version)
    try:
        return plane.ensure_server(model, version, known)
    except WindlassError as error:
        raise type(error)(
            f"rollback {model}: version {version} cannot be served, the traffic stays as it was: {error}"
        ) from error


def _require_cluster(backend: EnvoyBackend, files: EnvoyFiles) -> None:
    """Make Envoy know every server of the routing: whoever wrote it may have died before telling Envoy."""
    with files.locked():
        wanted = addresses(files.desired())
        if backend.admin.clusters() == wanted:
            return
        files.write_clusters(files.desired())
    deadline = time.monotonic() + CHANGE_S
    while backend.admin.clusters() != wanted:
        if time.monotonic() > deadline:
            raise WindlassError(f"Envoy at {backend.admin.address} does not take the servers {wanted}")
        time.sleep(0.005)


def _require_free_hands(files: EnvoyFiles, plane: Plane) -> None:
    """Refuse to wait for ever for one who changes the routes and stands still."""
    with (files.directory / "lock").open("a") as file:
        if not _take(file.fileno(), CHANGE_S):
            who = "an engine that runs" if plane.engine_runs() else "an engine that stands still"
            raise WindlassError(
                f"{who} holds {files.directory / 'lock'} for more than {CHANGE_S:g} s; `windlass status` names its "
                "process: `kill -9` it, predictions go on, and roll back again"
            )


# --- the order


def _insist(backend: EnvoyBackend, model: str, target: str, letter: Path) -> None:
    """Stay until the engine has taken the order up: a step of its own that was under way may still move the traffic."""
    deadline = time.monotonic() + AGREE_S
    while True:
        waits = letter.exists() and time.monotonic() < deadline
        if backend.weights(model) != {target: 100}:
            backend.set_weights(model, {target: 100})
        if not waits:
            return
        time.sleep(0.02)


def _order(settings: Settings, model: str, target: str, route: ModelRoute, clock: Clock) -> Path:
    now = clock.now()
    try:
        by = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        by = f"user {os.getuid()}"
    order = Order(model, "rollback", by, now.isoformat(), to=target)
    letter = mailbox.order(mailbox.commands(settings), order, now)
    kept = Journal(path(settings))
    try:
        kept.append(
            {"at": now.isoformat(), "by": by, "model": model, "from": dict(route.weights), "to": target}
        )
    finally:
        kept.close()
    return letter


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One rollback at a time."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as file:
        if not _take(file.fileno(), TURN_S):
            raise WindlassError(f"another rollback holds {place} for more than {TURN_S:g} s; end it")
        yield


def _take(descriptor: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
