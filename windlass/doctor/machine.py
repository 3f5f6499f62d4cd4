"""The machine: the interpreter, the home's disk, memory, the loopback interface."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from windlass.doctor.finding import Finding, fail, ok, warn
from windlass.settings import Settings

GB = 10**9
# a home with a year of flights, its registry and step cache takes about 1 GB
ENOUGH_DISK = 3 * GB
LEAST_DISK = GB // 2
ENOUGH_MEMORY = 6 * GB


def python() -> Finding:
    version = sys.version.split()[0]
    if sys.version_info[:2] != (3, 11):
        return fail(
            "python",
            f"this is Python {version}; the locks are for 3.11",
            "make PYTHON=python3.11 .venv/.complete",
        )
    return ok("python", f"{version}, {sys.executable}")


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Total memory: the full demo's process tree may take 6 GB."""
    if not meminfo.exists():
        return ok("memory", "unknown on this system")
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
            if total < ENOUGH_MEMORY:
                return warn(
                    "memory",
                    f"{total / GB:.1f} GB in all; the full demo may take {ENOUGH_MEMORY / GB:.0f} GB",
                    "windlass demo --fast",
                )
            return ok("memory", f"{total / GB:.1f} GB in all")
    return ok("memory", "unknown on this system")


def home(settings: Settings) -> list[Finding]:
    """Whether the home, or the folder it will be made in, can be written, and has room."""
    place = settings.home
    while not place.exists():
        place = place.parent
    name = shlex.quote(str(place))
    if not place.is_dir():
        return [
            fail(
                "home",
                f"{place} is a file, and {settings.home} should be a folder",
                f"mv {name} {name}.moved",
            )
        ]
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return [fail("home", f"{place} cannot be written: {error.strerror}", f"chmod u+rwx {name}")]
    findings = [ok("home", f"{settings.home} can be written")]
    free = shutil.disk_usage(place).free
    cause = f"{free / GB:.1f} GB free at {place}"
    # the step cache is the one thing that can go without loss: steps run again
    cache = f"rm -rf {shlex.quote(str(settings.cache_dir))}"
    if free < LEAST_DISK:
        findings.append(fail("disk", f"{cause}; at least {LEAST_DISK / GB:.1f} GB is needed", cache))
    elif free < ENOUGH_DISK:
        findings.append(warn("disk", f"{cause}; the full demo may take {ENOUGH_DISK / GB:.0f} GB", cache))
    else:
        findings.append(ok("disk", cause))
    return findings


def loopback() -> Finding:
    """Everything local talks over 127.0.0.1."""
    try:
        with socket.socket() as listener, socket.socket() as caller:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            caller.settimeout(2)
            caller.connect(listener.getsockname())
    except OSError as error:
        return fail("loopback", f"127.0.0.1 cannot be reached: {error}", "ip link set lo up")
    return ok("loopback", "a port of 127.0.0.1 can be opened and reached")


def port(number: int) -> Finding:
    """Whether `windlass up --port NUMBER` would find its port free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
            return ok("port", f"{number} is free")
        except OSError as error:
            reason = os.strerror(error.errno or 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    return fail(
        "port", f"{number}: {reason}", f"windlass doctor --port {free} && windlass up --detach --port {free}"
    )
