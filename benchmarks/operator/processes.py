"""The processes of the scene as the kernel sees them: the CPU that they use, and how long they wait for one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import UsageError

PROC = Path("/proc")
#: Where the scheduler shares the CPUs out between sessions, each of our processes has one of its own, and one that
#: computes for a moment waits for everybody else's turn. This is the most that may be asked for but one.
NICE = -15


@dataclass(frozen=True)
class Use:
    """Seconds since a process began.

    Attributes:
        cpu_s: that its threads ran.
        waited_s: that its threads were ready to run and had no CPU, of those that live still.
    """

    cpu_s: float
    waited_s: float


def children() -> dict[str, int]:
    """The processes that this one started and that run, and itself as `bench`; by name."""
    found = {"bench": os.getpid()}
    for pid in sorted(_pids()):
        try:
            name, _, rest = (PROC / str(pid) / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has ended
            continue
        if int(rest.split()[1]) == os.getpid():
            found["operator" if name.startswith("python") else name] = pid
    return found


def use(pid: int) -> Use:
    """What a process has used so far."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    waited_ns = 0
    for task in (PROC / str(pid) / "task").iterdir():
        try:
            waited_ns += int((task / "schedstat").read_text().split()[1])
        except OSError:  # a thread that has ended, or a kernel that does not count it
            continue
    return Use(cpu_s, waited_ns / 1e9)


def come_first(found: Mapping[str, int]) -> None:
    """Let these processes have a CPU before all others of the machine.

    Raises:
        UsageError: the kernel has no groups of sessions, or we may not.
    """
    for pid in found.values():
        try:
            (PROC / str(pid) / "autogroup").write_text(str(NICE))
        except OSError as error:
            raise UsageError(
                f"--first cannot be done here: {error}; run as root on a Linux with autogroups, or without it"
            ) from error


def _pids() -> Iterator[int]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)
