"""Sources of Go modules at versions that no group of tools pins, each held to its checksum."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.tools import golang
from windlass.errors import WindlassError

DOWNLOAD_S = 600

#: Module and version by its h1 checksum, as a go.sum has it.
KUBERNETES = {
    "1.32": ("v1.32.13", "h1:5TGYdZ6YZqdp6h/Rp1vX/4TIoybMPdgv97LCZCtPuNQ="),
    "1.33": ("v1.33.13", "h1:bmH31xUdSzeA5vk0wZAK9MZp11mdLuzUSeKk0qN3hPQ="),
    "1.34": ("v1.34.4", "h1:Yy6R4QB8C9kJPp25GFqEvX5XQwY5qzKeqD0Xx6oAcmk="),
    "1.35": ("v1.35.4", "h1:o/8dBC/pHVpYoGV4OAIytAlNPZbdYVTXJHoYvXC4qzM="),
}
PROMETHEUS_OPERATOR = (
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
)
KUBERAY = (
    "github.com/ray-project/kuberay/ray-operator@v1.4.2",
    "h1:A4tGzbIky8sInAUxZBdBb+rrpZ7fbqoxdsOtm559Zqg=",
)


@functools.cache
def folder(module: str, checksum: str) -> Path:
    """The sources of `module`, a path with "@" and a version; they stay in Go's cache.

    Raises:
        WindlassError: it cannot be had, or is not what the checksum says.
    """
    go = golang.find((1, 21))
    command: list[str | Path] = [go.program, "mod", "download", "-json", module]
    with tempfile.TemporaryDirectory() as nowhere:  # outside of every module
        done = subprocess.run(
            command,
            cwd=nowhere,
            env=golang.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=DOWNLOAD_S,
        )
    if done.returncode:
        raise WindlassError(
            f"`{' '.join(map(str, command))}` ended with {done.returncode}: {(done.stderr + done.stdout).strip()}; "
            "check that Go's module proxy can be reached (`go env GOPROXY`)"
        )
    found = json.loads(done.stdout)
    if found["Sum"] != checksum:
        raise WindlassError(
            f"{module} has the checksum {found['Sum']}, {checksum} was expected: do not use it"
        )
    return Path(found["Dir"])
