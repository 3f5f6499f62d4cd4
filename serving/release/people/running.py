"""What runs on this machine and what it routes, as far as somebody outside the platform's process can see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.release import traffic as traffic_json
from serving.release.envoy.backend import EnvoyBackend
from serving.release.people.account import Account
from windlass.errors import WindlassError
from windlass.settings import Settings


@dataclass(frozen=True)
class Platform:
    """What runs here, as whoever may ask the platform's own description found it.

    Attributes:
        engine: whether the process runs that carries releases out; the proxy may go on without it.
        models: that it serves.
    """

    engine: bool
    models: tuple[str, ...] = ()


def backend(settings: Settings) -> EnvoyBackend | None:
    """The proxy of this home; None where none was ever started."""
    try:
        return EnvoyBackend.attach(settings.run_dir / "envoy")
    except WindlassError:
        return None


def runs(settings: Settings, platform: Platform | None) -> bool:
    """Whether an engine runs; where nobody could tell, whether the proxy does."""
    return proxy_runs(settings) if platform is None else platform.engine


def proxy_runs(settings: Settings) -> bool:
    """Whether the proxy answers."""
    found = backend(settings)
    return found is not None and found.running()


def routed(settings: Settings, model: str) -> tuple[dict[str, Any] | None, str | None]:
    """The traffic on the wire, or why it is not known."""
    found = backend(settings)
    if found is None or not found.running():
        return None, "no platform runs here"
    try:
        shown = found.traffic(model)
    except WindlassError as error:
        return None, str(error)
    return (None, "the model has no route") if shown is None else (traffic_json.to_json(shown), None)


def on_wire(settings: Settings, told: Account, platform: Platform | None = None) -> bool:
    """Whether an end that is not confirmed has its traffic, so that only an alias can be missing.

    An alias takes its moment; so it is asked only once carrying the end out has failed, or nobody is left to do it.
    """
    if not told.history.noted and (platform is None or platform.engine):
        return False
    wire, _ = routed(settings, told.release.model)
    weights = {version: weight for version, weight in told.state.weights.items() if weight}
    return wire is not None and {v: w for v, w in wire["weights"].items() if w} == weights
