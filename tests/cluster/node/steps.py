"""How long each step of a test on the node took: printed when it is over, and kept as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from windlass import atomic


class Steps:
    """The clock of one test.

    Args:
        file: where the times are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._took: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """One step; where it fails, its name stands in the output before the failure."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self._print(f"{name}: FAILED after {time.monotonic() - began:.0f} s")
            raise
        self._took[name] = round(time.monotonic() - began, 1)
        self._print(f"{name}: {self._took[name]:.0f} s")
        atomic.write_text(self._file, json.dumps(self._took, indent=1))

    @staticmethod
    def _print(text: str) -> None:
        load = os.getloadavg()[0]
        print(f"  {text} (load {load:.0f} on {os.cpu_count()} cores)", file=sys.stderr, flush=True)
