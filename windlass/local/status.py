"""What runs on this home, asked of the processes themselves."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from windlass.errors import WindlassError
from windlass.local import lock, processes, state
from windlass.local.plane import ENVOY, DataPlane
from windlass.settings import Settings


def status(settings: Settings) -> dict[str, Any]:
    """The platform's description with the weights that Envoy reports.

    `running` is whether an engine holds this home. `engine` is "up", "stands still", "starting" or "down"; `data_plane`
    is "up", "damaged" (a process that should run does not), or "down". Where something is wrong, `remedy` says what to
    do.
    """
    pid = lock.holder(state.lock_path(settings))
    plane = DataPlane(settings)
    content = state.running(settings) if pid is not None else None
    if content is None and plane.exists():
        # the engine is dead, or is taking over; its last description still says where requests go
        with contextlib.suppress(OSError, ValueError):
            content = state.described(settings)
    if content is None and not plane.exists():
        # who holds the home then is starting a platform, or runs a demo
        engine = "down" if pid is None else "starting"
        return {"running": False, "engine": engine, "data_plane": "down", "home": str(settings.home)}
    content = content or {"models": {}, "pids": {}, "home": str(settings.home)}
    found = _processes(plane, content, pid)
    envoy = found.get(ENVOY, {"alive": False})["alive"]
    engine = "down" if pid is None else "stands still" if processes.stopped(pid) else "up"
    alive = [process["alive"] for name, process in found.items() if name != "windlass"]
    data_plane = "down" if not envoy else "up" if all(alive) else "damaged"
    return {
        "running": pid is not None,
        "engine": engine,
        "data_plane": data_plane,
        **content,
        "weights": _weights(settings, content["models"]),
        "processes": found,
        "remedy": _remedy(engine, data_plane, pid),
    }


def _processes(plane: DataPlane, content: dict[str, Any], pid: int | None) -> dict[str, dict[str, Any]]:
    found = {name: {"pid": number, "alive": _alive(number)} for name, number in content["pids"].items()}
    if "windlass" in found:
        found["windlass"]["alive"] = pid == found["windlass"]["pid"]
    for key in plane.records.names():
        child = plane.records.find(key)
        name = key.removeprefix("server-").replace("@", "-") if key.startswith("server-") else key
        record = plane.records.read(key)
        number = child.pid if child is not None else record.pid if record is not None else None
        found[name] = {"pid": number, "alive": child is not None}
    return found


def _weights(settings: Settings, models: dict[str, str]) -> dict[str, dict[str, int] | None]:
    from serving.release.envoy.backend import EnvoyBackend

    weights: dict[str, dict[str, int] | None] = {}
    for model in models:
        weights[model] = None
        with contextlib.suppress(WindlassError):
            weights[model] = EnvoyBackend.attach(settings.run_dir / "envoy").weights(model)
    return weights


def _remedy(engine: str, data_plane: str, pid: int | None) -> str | None:
    if engine == "up":
        return None if data_plane == "up" else "the engine starts again what died; look again in a moment"
    rollback = "`windlass release rollback MODEL` works meanwhile"
    if engine == "stands still":
        return (
            f"the engine (process {pid}) is stopped: `kill -CONT {pid}` lets it go on, or `kill -9 {pid}` and "
            f"`windlass up` replace it, no request fails; {rollback}"
        )
    if data_plane == "up":
        return (
            "predictions are answered, but no release goes on and nothing that dies is started again: `windlass up` "
            f"takes over without a failed request, `windlass down` ends everything; {rollback}"
        )
    return "`windlass up` starts again what died, as it was; `windlass down` ends the rest"


def _alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
