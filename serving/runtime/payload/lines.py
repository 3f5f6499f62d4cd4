"""The prediction log as a file: a JSON line for each scored row.

What the collector follows. Rows of a batch are told apart by their ids: `<request id>/<row>`. Several processes
may append to one file: a batch of lines is one write to a file opened for appending.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from serving.runtime.payload.queue import Written
from windlass import atomic
from windlass.errors import WindlassError


class LinesWriter:
    """Appends lines to a file.

    Raises:
        WindlassError: the file cannot be opened for appending.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            atomic.cut_torn_tail(self._file)
        except OSError as error:
            text = f"cannot write the prediction log {path}: {error.strerror}; give another --log"
            raise WindlassError(text) from error

    def write(self, lines: bytes, give_up: threading.Event) -> Written:
        """Append all of `lines` or, as far as nobody else appended meanwhile, none of it."""
        done = 0
        try:
            while done < len(lines):
                done += os.write(self._file, lines[done:] if done else lines)
        except OSError as error:
            if done:
                self._take_back(done)
            return Written(0, error.strerror)
        return Written(lines.count(b"\n"))

    def close(self) -> None:
        os.close(self._file)

    def _take_back(self, done: int) -> None:
        # a full disk takes a part: a reader must not find half a line before the next whole one, and
        # where another process appended behind it, its lines are worth more than our half
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if os.fstat(self._file).st_size == end:
            os.ftruncate(self._file, end - done)
