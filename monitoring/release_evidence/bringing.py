"""Bringing bundles from the object store beside the answers: what hangs there, or is large, holds up no question."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from monitoring import bundles
from windlass.errors import WindlassError
from windlass.settings import Settings

AGAIN_S = 60.0
"""An object store that has not got a bundle, or does not answer, is asked for it again after so long."""
PATIENCE_S = 1.0
"""A question waits so long for a bundle that it begins to bring: most are there by then."""


class Bringing:
    """Brings one bundle at a time, each in a thread that ends with the process.

    Args:
        clock: seconds, of any beginning.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}
        self._now: tuple[str, str] | None = None
        self._thread: threading.Thread | None = None

    def lacking(self, model: str, version: str) -> str | None:
        """Why a bundle that is to come from the object store is not there, which begins to come; None of any other."""
        if not bundles.is_remote(self._settings, model, version):
            return None
        thread = self._thread
        if thread is not None and thread.is_alive():
            if self._now == (model, version):
                return f"the bundle of version {version} of {model} is being brought from the object store"
            return f"the bundle of version {version} of {model} waits: another is being brought from the object store"
        failed = self._failed.get((model, version))
        if failed is not None and self._clock() < failed[0]:
            return failed[1]
        self._now = model, version
        # a daemon: who has been told to end does not wait for a store that says nothing
        self._thread = threading.Thread(target=self._bring, args=(model, version), daemon=True)
        self._thread.start()
        self._thread.join(PATIENCE_S)
        return self.lacking(model, version)

    def _bring(self, model: str, version: str) -> None:
        try:
            bundles.bring(self._settings, model, version)
        except Exception as error:  # whatever it is, the next question is told and another thread tries again
            reason = str(error) if isinstance(error, WindlassError) else f"it cannot be brought: {error!r}"
            self._failed[model, version] = (self._clock() + AGAIN_S, reason)
        else:
            self._failed.pop((model, version), None)
