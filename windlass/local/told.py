"""Whether the end of a release has been told, to the registry and on its page: a registry that is down is told later.

Kept on disk, since the platform may be started again in between, and so that a start need not load the registry only
to say once more what it knows.
"""

from __future__ import annotations

import json

from serving.release.state import ReleaseState
from windlass import atomic
from windlass.settings import Settings


class Told:
    """The last end that was told of one model's releases."""

    def __init__(self, settings: Settings, model: str) -> None:
        self._path = settings.run_dir / "releases" / "told" / f"{model}.json"
        self._last: list[str] = json.loads(self._path.read_bytes()) if self._path.exists() else []

    def was(self, state: ReleaseState) -> bool:
        """Whether it is this end; a promotion that a person takes back has a second one."""
        return self._last == [state.release.name, state.phase]

    def keep(self, state: ReleaseState) -> None:
        self._last = [state.release.name, state.phase]
        atomic.write_text(self._path, json.dumps(self._last))
