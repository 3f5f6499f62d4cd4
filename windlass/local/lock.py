"""One platform a home: a file lock that the kernel releases however its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from windlass.errors import AlreadyRunningError


class PlatformLock:
    """Held while a platform (or a demo) uses a home."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("a+")
        try:
            self._take()
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise AlreadyRunningError(
                f"a platform already runs on {path.parent.parent} (process {holder}); "
                "`windlass status` shows it, `windlass down` ends it"
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def _take(self) -> None:
        # whoever asks for the holder holds the lock for an instant
        for attempt in range(10, -1, -1):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if not attempt:
                    raise
                time.sleep(0.02)

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()


def holder(path: Path) -> int | None:
    """Process id of whoever holds the lock, None where it is free."""
    if not path.exists():
        return None
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            text = file.read().strip()
            return int(text) if text.isdigit() else None
    return None
