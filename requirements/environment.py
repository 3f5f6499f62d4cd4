"""Make the environment `.venv` from a lock: the only step that a fresh machine needs, and the first of every target.

Runs on a bare Python 3.11, so it imports the standard library alone. uv comes from the package index by pip, by
hash, into `.tools`. The stamp `.venv/.complete` is written last: an installation that was interrupted is repeated,
and one that is complete costs nothing. Where pip was told of an index, certificates or wheels of its own, uv is told
the same, since uv does not read pip's configuration.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
UV_LOCK = ROOT / "requirements" / "bootstrap.lock"


def main() -> int:
    parser = argparse.ArgumentParser(description="Make an environment from a lock with uv.")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements" / "local.lock")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument(
        "--repair", action="store_true", help="install again although the environment says it is complete"
    )
    parser.add_argument("--uv-only", action="store_true", help="install uv alone and print where it lies")
    arguments = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        return fail(
            f"this is Python {sys.version.split()[0]}; run it with Python 3.11: make PYTHON=/path/to/python3.11"
        )
    TOOLS.mkdir(exist_ok=True)
    # two makes at once (a demo beside the tests) must not write into one environment together
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            uv = install_uv()
            if arguments.uv_only:
                print(uv)
            else:
                make(uv, arguments.venv.absolute(), arguments.lock, repair=arguments.repair)
        except subprocess.CalledProcessError as error:
            return fail(
                f"`{' '.join(map(str, error.cmd))}` ended with {error.returncode} (its own words are above); "
                "run the same make command again, it goes on where it stopped"
            )
        except MissingPipError as error:
            return fail(str(error))
    return 0


def make(uv: Path, venv: Path, lock: Path, *, repair: bool = False) -> None:
    """Bring `venv` to exactly what `lock` says, with the project itself installed editable."""
    stamp = venv / ".complete"
    digest = hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    python = venv / "bin" / "python"
    usable = python.exists() and quiet(
        [python, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"]
    )
    if usable and not repair and stamp.exists() and stamp.read_text() == digest:
        stamp.touch()  # make compares times, and a checkout touches files without changing them
        return
    stamp.unlink(missing_ok=True)
    say(f"installing {lock.name} into {venv.name} (a few minutes the first time)")
    if not usable:
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, venv])
    target = ["--quiet", "--python", str(python)]
    # a repair replaces every file: a package may have lost one and still look installed
    again = ["--reinstall"] if repair else []
    # compiled here: where PYTHONDONTWRITEBYTECODE is set, every process would compile the libraries anew
    run([uv, "pip", "sync", *target, *again, "--compile-bytecode", "--require-hashes", lock])
    # without isolation: the build back end is in the lock too, so nothing unpinned is fetched
    run([uv, "pip", "install", *target, "--no-deps", "--no-build-isolation", "--editable", ROOT])
    partial = venv / ".complete.partial"
    partial.write_text(digest)
    partial.replace(stamp)
    say(f"{venv.name} is complete")


def install_uv() -> Path:
    """Return uv's binary, installed by pip from its own lock."""
    digest = hashlib.sha256(UV_LOCK.read_bytes()).hexdigest()[:12]
    folder = TOOLS / f"uv-{digest}"
    if not folder.exists():
        partial = TOOLS / "uv.partial"
        shutil.rmtree(partial, ignore_errors=True)
        say("installing uv")
        run(
            [
                *pip(),
                "install",
                "--quiet",
                "--root-user-action=ignore",
                "--require-hashes",
                "--target",
                partial,
                "-r",
                UV_LOCK,
            ]
        )
        partial.replace(folder)
    return folder / "bin" / "uv"


class MissingPipError(Exception):
    pass


def pip() -> list[str]:
    """The command of a pip: the interpreter's own, else one in an environment made for it."""
    if quiet([sys.executable, "-m", "pip", "--version"]):
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    folder = TOOLS / "pip"
    if not quiet([folder / "bin" / "python", "-m", "pip", "--version"]):
        shutil.rmtree(folder, ignore_errors=True)
        if not quiet([sys.executable, "-m", "venv", folder]):
            raise MissingPipError(
                f"{sys.executable} has neither pip nor ensurepip; on Debian: apt-get install python3-venv"
            )
    return [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]


def uv_environment() -> dict[str, str]:
    """The environment for uv, with what pip's configuration says carried over."""
    environment = {"UV_HTTP_TIMEOUT": "180", "UV_NO_PROGRESS": "1", **os.environ}
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "trusted-host": "UV_INSECURE_HOST",
        "no-index": "UV_NO_INDEX",
        "cert": "SSL_CERT_FILE",
    }
    listed = subprocess.run([*pip(), "config", "list"], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        if name and name not in environment:
            environment[name] = value.strip("'\"").replace("\\n", " ").strip()
    return environment


def run(command: list[str | Path]) -> None:
    environment = uv_environment() if Path(command[0]).name == "uv" else None
    subprocess.run(command, check=True, env=environment)


def quiet(command: list[str | Path]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def say(text: str) -> None:
    print(f"environment: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> int:
    say(f"error: {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
