"""Progress of long work on stderr: one line that is rewritten on a terminal, a line a step elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time


class Progress:
    """Prints what is going on; silent where `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._open_line = False

    def step(self, text: str) -> None:
        """Something happened that stays on the screen."""
        if self._quiet:
            return
        # where it goes may be on a full disk: what is told must not end what tells it
        with contextlib.suppress(OSError):
            self._end_line()
            sys.stderr.write(f"[{time.monotonic() - self._started:6.1f} s] {text}\n")
            sys.stderr.flush()

    def update(self, text: str) -> None:
        """Where things stand; shown on a terminal only, replaced by the next."""
        if self._quiet or not self._terminal:
            return
        sys.stderr.write(f"\r\033[K[{time.monotonic() - self._started:6.1f} s] {text}")
        sys.stderr.flush()
        self._open_line = True

    def _end_line(self) -> None:
        if self._open_line:
            sys.stderr.write("\r\033[K")
            self._open_line = False
