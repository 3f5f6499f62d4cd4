"""The one thing that a feature repository's definitions need of us: where a view's offline rows lie.

A definition states no path of its own. Where the store is opened by `windlass` the settings in use apply; where
Feast's own command line reads the repository, those of the environment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from windlass import settings as settings_module
from windlass.features import partitions
from windlass.settings import Settings

_in_use: ContextVar[Settings | None] = ContextVar("windlass_feature_settings", default=None)


@contextlib.contextmanager
def using(settings: Settings) -> Iterator[None]:
    """Definitions that are read in this context take their paths from `settings`."""
    token = _in_use.set(settings)
    try:
        yield
    finally:
        _in_use.reset(token)


def offline_rows(view: str) -> str:
    """Pattern of the parquet files of a view."""
    current = _in_use.get()
    if current is None:
        # `feast` works in the repository's own folder, one below the project
        here = Path.cwd()
        project = here.parent if here.name == "feature_repo" else here
        current = settings_module.load({"WINDLASS_PROJECT": str(project), **os.environ})
    return partitions.pattern(current, view)
