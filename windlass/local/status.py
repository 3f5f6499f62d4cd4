"""What runs on this home, asked of the processes themselves."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from windlass.errors import WindlassError
from windlass.local import state
from windlass.settings import Settings


def status(settings: Settings) -> dict[str, Any]:
    """The platform's description with the weights that Envoy reports; `running` is False where none runs."""
    content = state.running(settings)
    if content is None:
        return {"running": False, "home": str(settings.home)}
    from serving.release.envoy import EnvoyBackend

    weights: dict[str, dict[str, int] | None] = {}
    backend = EnvoyBackend.attach(settings.run_dir / "envoy")
    for model in content["models"]:
        weights[model] = None
        with contextlib.suppress(WindlassError):
            weights[model] = backend.weights(model)
    processes = {name: {"pid": pid, "alive": _alive(pid)} for name, pid in content["pids"].items()}
    return {"running": True, **content, "weights": weights, "processes": processes}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
