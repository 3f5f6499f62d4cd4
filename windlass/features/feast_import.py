"""The door to Feast: importing it without what it does to the process that imports it.

Feast 0.67 wraps its methods with typeguard, which parses a whole module again for each of them: 5 of the 7 seconds
of CPU of its import. The checks are of argument types in definition files; `definitions` holds those by making the
protos of what they define. And its feature server, which nobody here starts, points prometheus_client at a folder
that Feast deletes when this process ends; children that outlive it would count into nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from windlass import telemetry

COUNTERS_FOLDER = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")


def load() -> None:
    """Import Feast; `from feast import …` is quick and harmless from then on. Idempotent."""
    if "feast" in sys.modules:
        return
    telemetry.switch_off()
    # first: it decides at its import, by these variables, whether counters lie in memory or in files
    import prometheus_client  # noqa: F401 - for the order alone
    import typeguard

    checked = typeguard.typechecked
    unset = [name for name in COUNTERS_FOLDER if name not in os.environ]
    # somebody's own folder stays; else one that is there, so that Feast makes none
    stands = next((os.environ[n] for n in COUNTERS_FOLDER if n in os.environ), tempfile.gettempdir())
    try:
        typeguard.typechecked = _unchecked
        os.environ.update(dict.fromkeys(unset, stands))
        import feast  # noqa: F401 - for what the import does
    finally:
        typeguard.typechecked = checked
        for name in unset:
            del os.environ[name]


def _unchecked(target: Any = None, **_: Any) -> Any:
    """`typeguard.typechecked` as it is under `python -O`."""
    return target if target is not None else _unchecked
