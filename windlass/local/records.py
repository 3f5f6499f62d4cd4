"""Processes that outlive whoever started them: each is a file, `run/processes/<key>.json`.

A data plane must go on when `windlass up` is killed or stands still, so that its processes are tied to no parent. What
then keeps them from being lost is the order of the writes: first the record, with a token; then the process, with the
token in its environment; then the record again, with the process's number. Whoever is killed in between leaves a
record whose process is found by its token, and a process that has no record at all still names the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from windlass import atomic
from windlass.local import processes
from windlass.local.processes import Adopted, Child

MARK = "WINDLASS_PROCESS"
#: A start takes milliseconds; whoever holds the lock for longer stands still and must not hold up a rollback.
LOCK_S = 5.0


@dataclass(frozen=True)
class Record:
    """How a process was started, and which one it is.

    Attributes:
        environment: what was added to the starter's own.
        directory: working directory.
        at: epoch seconds of its start.
        pid, began: None until it has started; `began` is what `processes.started` says of it.
    """

    key: str
    name: str
    command: tuple[str, ...]
    log: str
    directory: str
    token: str
    at: float
    port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    pid: int | None = None
    began: str | None = None


class Records:
    """The recorded processes of one home.

    Args:
        folder: `settings.run_dir / "processes"`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(
        self,
        key: str,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Child:
        """Start a process that no death of ours ends; one that runs under this key already is returned instead."""
        with self._locked(key):
            running = self.find(key)
            if running is not None:
                return running
            record = Record(
                key=key,
                name=name,
                command=tuple(command),
                log=str(log),
                directory=str(directory or Path.cwd()),
                token=uuid.uuid4().hex,
                at=time.time(),
                port=port,
                environment=dict(environment or {}),
            )
            self._write(record)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as sink:
                process = subprocess.Popen(
                    record.command,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    cwd=record.directory,
                    env={**os.environ, **record.environment, MARK: self._mark(record.token)},
                    # neither a Ctrl-C nor a closed terminal of ours is meant for it
                    start_new_session=True,
                )
            self._write(replace(record, pid=process.pid, began=processes.started(process.pid)))
        return Child(name, process, log, port)

    def find(self, key: str) -> Child | None:
        """The process of a record, None where none runs."""
        record = self.read(key)
        if record is None:
            return None
        pid, began = record.pid, record.began
        if pid is None:  # its starter was killed, or is about to write the number
            marked = _marked(self._mark(record.token))
            # its own children carry the same mark; it is the oldest
            pid = min(marked, key=_age, default=None)
            began = None if pid is None else processes.started(pid)
        if pid is None or began is None or processes.started(pid) != began:
            return None
        return Child(record.name, Adopted(pid, began), Path(record.log), record.port)

    def read(self, key: str) -> Record | None:
        """The record itself, None where there is none that can be read."""
        try:
            plain = json.loads((self.folder / f"{key}.json").read_bytes())
            return Record(**{**plain, "command": tuple(plain["command"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def names(self) -> list[str]:
        """Keys of all records, whether or not their processes run."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.json"))

    def running(self) -> dict[str, Child]:
        """The processes that run, by key."""
        return {key: child for key in self.names() if (child := self.find(key)) is not None}

    def end(self, key: str, timeout: float = 10.0) -> bool:
        """End a process (asked first, then killed) and forget it; whether it ran."""
        child = self.find(key)
        if child is not None:
            child.stop(timeout)
        self.forget(key)
        return child is not None

    def forget(self, key: str) -> None:
        (self.folder / f"{key}.json").unlink(missing_ok=True)

    def end_strays(self) -> int:
        """End processes of this folder that no running record accounts for; how many there were."""
        records = [self.read(key) for key in self.running()]
        accounted = {self._mark(record.token) for record in records if record is not None}
        strays = [pid for pid, mark in _marked(str(self.folder.resolve())).items() if mark not in accounted]
        for pid in strays:
            began = processes.started(pid)
            if began is not None:
                Child("a stray process", Adopted(pid, began), Path(os.devnull)).stop()
        return len(strays)

    def _mark(self, token: str) -> str:
        return f"{self.folder.resolve()}#{token}"

    def _write(self, record: Record) -> None:
        atomic.write_text(self.folder / f"{record.key}.json", json.dumps(asdict(record), indent=1) + "\n")

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """One starter at a time for a key; goes on after `LOCK_S`, for the holder may never come back."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{key}.lock").open("w") as file:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.01)
            yield


def _marked(start: str) -> dict[int, str]:
    """Running processes that carry this mark, or a mark of this folder; this process is left out."""
    whole, folder = f"{MARK}={start}".encode(), f"{MARK}={start}#".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                if variable == whole or variable.startswith(folder):
                    found[int(entry.name)] = variable.decode().removeprefix(f"{MARK}=")
    return found


def _age(pid: int) -> int:
    """Clock ticks from the machine's start to the process's."""
    began = processes.started(pid)
    return int(began.rpartition("/")[2]) if began is not None else 0
