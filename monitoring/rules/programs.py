"""Prometheus, Alertmanager and their tools, where a drill or a test runs the real ones.

Windlass needs none of them to do its work, so they are no dependency: a program on PATH is taken, else Debian's
package is unpacked (not installed) into `.tools`, once. It comes through apt, which checks its signature; lists and
cache are in a folder of our own, so that neither root nor an up-to-date system is needed.

Debian's Alertmanager reads its templates from /usr/share and does not start without them, and nothing of ours may be
put there. In the unpacked copy that path is replaced by one of the same length that leads to the working directory, and
a script starts it in the folder of the package's own templates.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import UsageError, WindlassError
from windlass.settings import load

#: apt and dpkg on a slow network; they hang for ever on some broken ones.
FETCH_S = 600


@dataclass(frozen=True)
class _Program:
    """Where a program is found.

    Attributes:
        package: Debian's package.
        file: its name in the unpacked package; Debian calls Alertmanager "prometheus-alertmanager".
        names: what it may be called on PATH.
    """

    package: str
    file: str
    names: tuple[str, ...]


_PROGRAMS = {
    "prometheus": _Program("prometheus", "prometheus", ("prometheus",)),
    "promtool": _Program("prometheus", "promtool", ("promtool",)),
    "alertmanager": _Program(
        "prometheus-alertmanager", "alertmanager", ("alertmanager", "prometheus-alertmanager")
    ),
    "amtool": _Program("prometheus-alertmanager", "amtool", ("amtool",)),
}


def binary(name: str, tools: Path | None = None) -> Path:
    """The program, fetched where it is not there yet.

    Args:
        name: "prometheus", "promtool", "alertmanager" or "amtool".
        tools: where packages are unpacked; `.tools` of the project by default.

    Returns:
        Its path. Give it absolute paths: it may run in another working directory than yours.

    Raises:
        UsageError: no such program is known.
        WindlassError: it is neither on PATH nor to be had from Debian's archive.
    """
    program = _PROGRAMS.get(name)
    if program is None:
        raise UsageError(f"the program {name!r} is not known; known are {', '.join(_PROGRAMS)}")
    for called in program.names:
        if found := shutil.which(called):
            return Path(found)
    tools = (load().project / ".tools") if tools is None else tools
    tools.mkdir(parents=True, exist_ok=True)
    with (tools / f"{program.package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes must not unpack into one folder together
        for place in sorted(tools.glob(f"{program.package}-[0-9]*/usr/bin/{program.file}")):
            return place
        return _fetched(program, tools) / "usr" / "bin" / program.file


_SHARE = b"/usr/share/prometheus/alertmanager"
_HERE = b"/proc/self/cwd".ljust(len(_SHARE), b"/")


def _at_home(content: Path, place: Path) -> None:
    """Make an Alertmanager in `content`, which will be moved to `place`, that finds its templates there."""
    bin_, share = content / "usr" / "bin", place / "usr" / "share" / "prometheus" / "alertmanager"
    binary_ = (bin_ / "prometheus-alertmanager").read_bytes()
    moved = bin_ / "alertmanager.moved"
    moved.write_bytes(binary_.replace(_SHARE, _HERE))
    script = bin_ / "alertmanager"
    program = shlex.quote(str(place / "usr" / "bin" / moved.name))
    # exec: whoever ends the script ends the program
    script.write_text(f'#!/bin/sh\ncd {shlex.quote(str(share))} && exec {program} "$@"\n')
    for path in (moved, script):
        path.chmod(0o755)


def _fetched(program: _Program, tools: Path) -> Path:
    package = program.package
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise WindlassError(
            f"no {program.names[0]} on PATH and no apt-get to fetch Debian's {package} with; "
            f"install {program.names[0]} and put it on PATH"
        )
    partial = tools / f"{package}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial"):
        (partial / folder).mkdir(parents=True)
    options = [
        "-qq", "-o", f"Dir::State::Lists={partial / 'lists'}", "-o", f"Dir::Cache={partial / 'cache'}",
        # no lock of the system's, and no other user, who could not write here
        "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=",
    ]  # fmt: skip
    for command in (["update"], ["download", package]):
        _ran(["apt-get", *options, *command], partial, package)
    archives = sorted(partial.glob(f"{package}_*.deb"))
    if not archives:
        raise WindlassError(
            f"apt-get download {package} left no package in {partial}; install {package} instead"
        )
    version = re.sub(r"[^0-9.].*", "", archives[0].name.split("_")[1])
    _ran(["dpkg-deb", "-x", str(archives[0]), str(partial / "content")], partial, package)
    place = tools.resolve() / f"{package}-{version}"
    if (partial / "content" / "usr" / "bin" / "prometheus-alertmanager").is_file():
        _at_home(partial / "content", place)
    shutil.rmtree(place, ignore_errors=True)  # of an earlier version of this module
    (partial / "content").rename(place)
    shutil.rmtree(partial)
    return place


def _ran(command: list[str], folder: Path, package: str) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=FETCH_S, env=environ
        )
    except subprocess.TimeoutExpired as error:
        raise WindlassError(
            f"{command[0]} took over {FETCH_S} s to get Debian's {package}; install it (apt-get install {package})"
        ) from error
    if ended.returncode:
        raise WindlassError(
            f"{command[0]} ended with {ended.returncode}, so there is no {package}; install it (apt-get install "
            f"{package}), or make Debian's archive reachable: {ended.stderr.strip()[-1000:]}"
        )
