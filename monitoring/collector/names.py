"""What the positions of a feature vector are called: the version's bundle says, else the workload."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import orjson

from windlass import catalog
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.settings import Settings

#: a model's name is a folder's name, here and in the bundles
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class BrokenWorkloadError(WindlassError):
    """A workload is there and cannot be loaded: what is personal of it is not known."""


class Names:
    """Names by model and version.

    Raises:
        BrokenWorkloadError: from each method, where the model's workload cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workloads: dict[str, Workload | None] = {}

    def workload(self, model: str) -> Workload | None:
        """The workload of a model; None of a model that is none of this project's."""
        if model not in self._workloads:
            known = model.isidentifier() and model in catalog.names(self._settings.project)
            try:
                self._workloads[model] = catalog.load(model, self._settings.project) if known else None
            except (
                Exception
            ) as error:  # it is somebody's code: whatever it raises, it is not an unknown model
                raise BrokenWorkloadError(
                    f"workload {model!r} cannot be loaded ({error}); mend it, what is sent waits until then"
                ) from error
        return self._workloads[model]

    def inputs(self, model: str, version: str) -> tuple[str, ...]:
        """Names of a version's inputs, in its order; empty where nobody states them."""
        stated = bundled(self._settings.bundles_dir, model, version)
        if stated:
            return stated
        workload = self.workload(model)
        return () if workload is None else workload.model_inputs


def bundled(bundles: Path, model: str, version: str) -> tuple[str, ...]:
    """Names of the inputs that a version's bundle states; empty where it has none, or is not here yet."""
    if not MODEL.fullmatch(model) or not MODEL.fullmatch(version):
        return ()
    try:
        return _stated(bundles / model / version / "serving.json")
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return ()


# what raises is not remembered: a bundle may come after its version's first event
@lru_cache(maxsize=256)
def _stated(path: Path) -> tuple[str, ...]:
    return tuple(str(given["name"]) for given in orjson.loads(path.read_bytes()).get("inputs") or ())
