"""The installed packages, against the lock."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from windlass.doctor.finding import Finding, fail, ok, warn

SOURCE = Path(__file__).resolve().parent.parent.parent


def locked(lock: Path) -> dict[str, str]:
    """Package (normalized) -> version, as a lock states it."""
    return {
        normalized(match[1]): match[2]
        for match in re.finditer(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE)
    }


def installed() -> dict[str, str]:
    from importlib import metadata

    return {normalized(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def against_lock(root: Path = SOURCE, present: Mapping[str, str] | None = None) -> Finding:
    """Compare what is installed with `requirements/local.lock`; other packages beside it are nobody's business."""
    lock = root / "requirements" / "local.lock"
    if not lock.is_file():
        # an installed wheel, as in our images: there the image's own lock was obeyed when it was built
        return ok("packages", "installed without the source tree; there is no lock to compare with")
    stated = locked(lock)
    there = installed() if present is None else present
    absent = [f"{name} {version}" for name, version in stated.items() if name not in there]
    other = [
        f"{name} {there[name]} instead of {version}"
        for name, version in stated.items()
        if name in there and there[name] != version
    ]
    if absent:
        return fail(
            "packages", f"absent: {_some(absent)}" + (f"; {_some(other)}" if other else ""), repair(root)
        )
    if other:
        return warn("packages", _some(other), repair(root))
    return ok("packages", f"{len(stated)} packages as in {lock.name}")


def repair(root: Path = SOURCE) -> str:
    """The command that installs every package again, as locked."""
    # by the interpreter that the environment was made from: the one inside must not replace itself
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    python = base if base.exists() else Path(sys.executable)
    script = root / "requirements" / "environment.py"
    return shlex.join([str(python), str(script), "--repair", "--venv", sys.prefix])


def _some(items: list[str], most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
