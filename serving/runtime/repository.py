"""The models of this process: which versions answer, and how one takes the place of another.

A request keeps the version that it began with; the next one gets the new version. A version that was taken out
answers what it still has and is closed after that, so that a swap loses no request and mixes no versions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.runtime.counts import VersionCounts
from serving.runtime.flow.lane import Lane
from serving.runtime.refusal import NotFound
from serving.runtime.served import Served
from windlass.errors import UsageError

Load = Callable[[Path], "Loaded"]


@dataclass(frozen=True)
class Loaded:
    """A version that answers, the lane that leads to it, and the counts of its responses."""

    served: Served
    lane: Lane
    requests: VersionCounts

    @property
    def model(self) -> str:
        return self.served.bundle.model

    @property
    def version(self) -> str:
        return self.served.bundle.version

    def close(self) -> None:
        """Let go of everything that it holds."""
        self.lane.close()
        self.served.ladder.close()
        if self.served.sink is not None:
            self.served.sink.close()


@dataclass(frozen=True)
class Entry:
    """A version of the index."""

    model: str
    version: str
    state: str
    reason: str = ""


class Repository:
    """Models by name and version.

    Args:
        folder: `<folder>/<model>/<version>/serving.json` can be loaded while the server runs; None for none.
        load: makes a bundle's folder answer; runs in a thread.
        changed: called on the event loop after each change.
    """

    def __init__(self, folder: Path | None, load: Load, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._load = load
        self._changed = changed
        self._models: dict[str, dict[str, Loaded]] = {}
        self._defaults: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Loaded]:
        return (loaded for versions in self._models.values() for loaded in versions.values())

    @property
    def names(self) -> list[str]:
        return list(self._models)

    def add(self, loaded: Loaded) -> None:
        """Take a version in beside the others of its model; the newest one answers where none is named."""
        self._models.setdefault(loaded.model, {})[loaded.version] = loaded
        self._defaults[loaded.model] = loaded.version
        self._changed()

    def default(self, model: str) -> Loaded:
        """The version that answers where none is named."""
        return self._models[model][self._defaults[model]]

    def find(self, model: str, version: str | None = None) -> Loaded:
        """Return a version.

        Raises:
            NotFound: there is no such model or version here.
        """
        versions = self._models.get(model)
        if versions is None:
            known = ", ".join(repr(m) for m in self._models) or "none"
            raise NotFound(f"model {model[:60]!r} is not served here; served is {known}")
        if not version:
            return self.default(model)
        if version not in versions:
            known = ", ".join(repr(v) for v in versions)
            raise NotFound(f"version {version[:60]!r} of {model!r} is not served here; served is {known}")
        return versions[version]

    # ---- while the server runs

    def index(self) -> list[Entry]:
        """Every version that answers or could be loaded."""
        entries = [Entry(loaded.model, loaded.version, "READY") for loaded in self]
        ready = {(e.model, e.version) for e in entries}
        for place in sorted(self._folder.glob("*/*/serving.json")) if self._folder else ():
            model, version = place.parent.parent.name, place.parent.name
            if (model, version) not in ready:
                entries.append(Entry(model, version, "UNAVAILABLE", "unloaded"))
        return entries

    async def load(self, model: str, version: str | None = None) -> Loaded:
        """Load a version of the folder, or its newest, and let it take the place of those that answer.

        Raises:
            NotFound: the folder has no such version.
            WindlassError: the bundle cannot be served; what answered before still does.
        """
        async with self._lock:
            place = self._place(model, version)
            loaded = await asyncio.to_thread(self._load, place)
            if (loaded.model, loaded.version) != (model, place.name):
                found = f"{loaded.model} version {loaded.version}"
                loaded.close()
                raise UsageError(f"{place.name} of {model} holds {found}; rename the folder")
            await loaded.served.ladder.warm()
            before = self._models.get(model, {})
            self._models[model] = {loaded.version: loaded}
            self._defaults[model] = loaded.version
            self._changed()
            self._leave(before)
            return loaded

    async def unload(self, model: str) -> None:
        """Take all versions of a model out.

        Raises:
            NotFound: the model is not served here.
        """
        async with self._lock:
            self.find(model)
            before = self._models.pop(model)
            del self._defaults[model]
            self._changed()
            self._leave(before)

    def _place(self, model: str, version: str | None) -> Path:
        """The folder of a version. Names are looked up and never joined to a path: one from a request may be any."""
        if self._folder is None:
            raise NotFound("no model can be loaded here: the server was started without --repository")
        shelves = {p.name: p for p in self._folder.iterdir() if p.is_dir()}
        if model not in shelves:
            raise NotFound(f"model {model[:60]!r} is not in the repository")
        places = {p.parent.name: p.parent for p in shelves[model].glob("*/serving.json")}
        if not places or (version and version not in places):
            known = ", ".join(sorted(places)) or "none"
            raise NotFound(
                f"version {str(version)[:60]!r} of {model!r} is not in the repository; it has {known}"
            )
        return places[version] if version else places[max(places, key=_order)]

    def _leave(self, versions: dict[str, Loaded]) -> None:
        async def close_when_drained(loaded: Loaded) -> None:
            await loaded.lane.drained()
            await asyncio.to_thread(loaded.close)

        for loaded in versions.values():
            task = asyncio.get_running_loop().create_task(close_when_drained(loaded))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def close(self) -> None:
        """Close every version."""
        for loaded in list(self):
            loaded.close()


def _order(version: str) -> tuple[int, int, str]:
    """Numbers by their value, and before them names by the alphabet."""
    return (1, int(version), "") if version.isdigit() else (0, 0, version)
