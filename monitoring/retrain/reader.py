"""Reading the journal of signals as it grows: a service asks several times a second and must not read it all again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from monitoring.retrain.history import History
from windlass.errors import WindlassError


class Reader:
    """The fold of a growing file: only what is new is read, a line that is not complete yet is left for later."""

    def __init__(self, journal: Path, workload: str) -> None:
        self._path = journal
        self._workload = workload
        self._start_anew()

    def _start_anew(self) -> None:
        self._read = 0
        self._lines = 0
        self._inode: int | None = None
        self._history = History()

    def refresh(self) -> History:
        """What the journal says now; the same object goes on at the next call.

        Raises:
            WindlassError: a line is no record; it is named.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            self._start_anew()
            return self._history
        try:
            status = os.fstat(descriptor)
            if status.st_ino != self._inode or status.st_size < self._read:
                self._start_anew()
                self._inode = status.st_ino
            if status.st_size > self._read:
                data = os.pread(descriptor, status.st_size - self._read, self._read)
                self._take(data[: data.rfind(b"\n") + 1])
        finally:
            os.close(descriptor)
        return self._history

    def _take(self, data: bytes) -> None:
        for line in data.split(b"\n")[:-1]:
            try:
                record = json.loads(line)
                if record["workload"] == self._workload:
                    self._history.take(record)
            except (ValueError, KeyError, TypeError) as error:
                raise WindlassError(
                    f"journal {self._path} cannot be read: line {self._lines + 1} is no record "
                    f"({type(error).__name__}: {error}); restore the file from a copy, or move it away"
                ) from error
            self._lines += 1
            self._read += len(line) + 1
