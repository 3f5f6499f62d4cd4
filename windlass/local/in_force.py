"""Which version a starting platform serves: what is in force, and only then what the registry says.

The registry's alias follows the traffic, it does not lead it: a person's rollback moves traffic at once and the alias
when an engine carries the order out. So an order that waits comes first, then a decision whose alias may not have been
moved, then the routing of a plane that is taken over; the registry decides a start from nothing, and where it cannot
be asked the routing of the last plane stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from serving.release.envoy.files import EnvoyFiles
from serving.release.journal import history, mailbox
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.local.plane import DataPlane
from windlass.local.standing import standing_clock
from windlass.settings import Settings

Ask = Callable[[str], str | None]
"""A model's champion as the registry has it, None where there is none; may fail in any way."""


@dataclass(frozen=True)
class InForce:
    """A version to serve; `warning` is for a person, None where all is as usual."""

    version: str
    warning: str | None = None


def models(settings: Settings) -> list[str]:
    """Models that had all the traffic of this home's plane, or of its last one."""
    routing = EnvoyFiles(settings.run_dir / "envoy").desired()
    return sorted(name for name, route in routing.models.items() if route.stable is not None)


def version(settings: Settings, model: str, ask: Ask) -> InForce | None:
    """The version that a starting platform gives the traffic, unless a live release says more; None for none.

    Raises:
        WindlassError: the registry cannot be asked, and nothing else is known.
    """
    if (ordered := _ordered(settings, model)) is not None:
        return InForce(ordered)
    if (decided := _unconfirmed(settings, model)) is not None:
        return InForce(decided)
    route = EnvoyFiles(settings.run_dir / "envoy").desired().models.get(model)
    last = None if route is None else route.stable
    if last is not None and DataPlane(settings).exists():
        return InForce(last)
    trouble = f"the registry knows no champion of {model}"
    try:
        champion = ask(model)
        if champion is not None:
            return InForce(champion)
    except Exception as error:  # a registry fails in its libraries' own ways
        trouble = f"the registry cannot be asked ({type(error).__name__}: {_first_line(error)})"
        if last is None:
            raise WindlassError(
                f"{trouble}, and no earlier platform on {settings.home} says which version of {model} to serve; "
                "`windlass doctor` looks at the registry"
            ) from error
    if last is None or not (settings.bundles_dir / model / last / "serving.json").is_file():
        return None
    return InForce(last, f"{trouble}; serving version {last}, which had the traffic last")


def clock(settings: Settings, workload: Workload, version: str) -> datetime | None:
    """Where the platform's clock stands (see `standing.py`): as in the plane that is taken over, else as learned."""
    plane = DataPlane(settings)
    plan = plane.last_plan()
    if not plane.exists():
        from components.registry import Registry

        try:
            trained_to = datetime.fromisoformat(Registry(settings).info(workload.name, version).trained_to)
            return standing_clock(workload, trained_to, datetime.now(UTC))
        except Exception:  # as above; the last plane's clock is the best that is left
            if plan is None:
                raise
    return None if plan is None or plan.as_of is None else datetime.fromtimestamp(plan.as_of, UTC)


def _ordered(settings: Settings, model: str) -> str | None:
    found: str | None = None
    for _, letter in mailbox.commands(settings).letters():
        if letter["model"] == model and letter["command"] == "rollback" and letter["to"] is not None:
            found = letter["to"]
    return found


def _unconfirmed(settings: Settings, model: str) -> str | None:
    newest = history.newest(settings.journal_dir / "releases", model)
    if newest is None or newest.unconfirmed is None:
        return None
    champion: str | None = newest.unconfirmed["champion"]
    return champion


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
