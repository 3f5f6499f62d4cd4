"""One environment for each contender, made on demand from its lock; what resolves together is not asked here."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from requirements import environment
from windlass.errors import WindlassError

CONTENDERS = Path(__file__).parent / "contenders"


def python_of(name: str | None) -> Path:
    """The interpreter of a contender's environment; of ours for None."""
    if name is None:
        return Path(sys.executable)
    return environment.TOOLS / "bench" / name / "bin" / "python"


def make(name: str) -> None:
    """Bring a contender's environment to what its lock says; costs nothing where it is there.

    Raises:
        WindlassError: it cannot be installed.
    """
    lock = CONTENDERS / name / "requirements.lock"
    python = python_of(name)
    stamp = python.parent.parent / ".complete"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    environment.say(f"installing {name} into {python.parent.parent} (minutes, the first time)")
    environment.TOOLS.mkdir(exist_ok=True)
    with (environment.TOOLS / "lock").open("w") as held:
        # a test run beside us may be installing too
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            uv = environment.install_uv()
            environment.run(
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, python.parent.parent]
            )
            target = ["--quiet", "--python", str(python), "--compile-bytecode", "--require-hashes"]
            environment.run([uv, "pip", "sync", *target, lock])
        except subprocess.CalledProcessError as error:
            raise WindlassError(
                f"{name} cannot be installed from {lock}: uv ended with {error.returncode}"
            ) from error
    stamp.write_text(digest)
