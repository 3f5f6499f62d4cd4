"""DVC as a program: found or made, and run without a word to anybody outside.

It is no package of ours to import: its S3 client pins versions that clash with our boto3, so it lives in an
environment of its own, `.tools/dvc`, made from `requirements/dvc.lock` where it is first needed. `WINDLASS_DVC` names
another executable, as an image does that carries one.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from windlass import telemetry
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

SOURCE = Path(__file__).parents[2]
VERSIONS = "3"
TIMEOUT_S = 3600.0
STDERR = 2


def executable(settings: Settings) -> Path:
    """Return the path of `dvc`, making its environment where there is none yet (some seconds, once).

    Raises:
        UsageError: `WINDLASS_DVC` names no program.
        WindlassError: there is none and none can be made here.
    """
    if settings.dvc is not None:
        found = shutil.which(settings.dvc)
        if found is None:
            raise UsageError(f"WINDLASS_DVC={settings.dvc!r} is no program; name the path of DVC {VERSIONS}")
        return Path(found)
    return _made(SOURCE)


@functools.cache
def _made(source: Path) -> Path:
    script, lock = source / "requirements" / "environment.py", source / "requirements" / "dvc.lock"
    place = source / ".tools" / "dvc"
    if not (script.is_file() and lock.is_file()):
        raise WindlassError(
            f"DVC is not installed, and {source} holds no lock to install it from; install DVC {VERSIONS} "
            "(`pip install 'dvc[s3]'`, in an environment of its own) and name it in WINDLASS_DVC"
        )
    # by the interpreter that ours was made from: it has a pip
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    python = base if base.exists() else Path(sys.executable)
    command: list[str | Path] = [python, script, "--lock", lock, "--venv", place]
    # whatever it says goes beside our own output, which may be one JSON object
    done = subprocess.run(command, stdout=STDERR, check=False, timeout=TIMEOUT_S)
    if done.returncode:
        raise WindlassError(
            f"the environment of DVC could not be made in {place} (its words are above); run the command again, or "
            "name a DVC in WINDLASS_DVC"
        )
    return place / "bin" / "dvc"


def run(settings: Settings, repository: Path, words: Sequence[str | Path]) -> None:
    """Run `dvc WORDS` in a repository.

    Raises:
        WindlassError: it failed; DVC's own words are in the message.
    """
    outside = repository / ".dvc" / "outside"
    environment = {
        **os.environ,
        **telemetry.SWITCHES,
        # a person's own configuration of DVC, and caches beside it, are none of this repository's business
        "DVC_GLOBAL_CONFIG_DIR": str(outside),
        "DVC_SYSTEM_CONFIG_DIR": str(outside),
        "DVC_SITE_CACHE_DIR": str(outside),
        "DVC_STUDIO_OFFLINE": "1",
    }
    command = [executable(settings), *words, "--quiet"]
    try:
        done = subprocess.run(
            command,
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WindlassError(
            f"`dvc {words[0]}` in {repository} was not done after {TIMEOUT_S:.0f} s; check that the remote answers"
        ) from None
    if done.returncode:
        said = " ".join(line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.strip())
        raise WindlassError(f"`dvc {words[0]}` in {repository} failed: {said or 'without a word'}")
