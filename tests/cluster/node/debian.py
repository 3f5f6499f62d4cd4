"""Programs that the node has from Debian: found, or installed where this machine lets us."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess

from windlass.errors import WindlassError

#: Program -> package.
PACKAGES = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "runc": "runc",
    "iptables": "iptables",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "mount": "mount",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}


@functools.cache
def require(*programs: str) -> None:
    """Have all of `programs`.

    Raises:
        WindlassError: one is missing and cannot be installed; the packages are named.
    """
    missing = [PACKAGES[name] for name in programs if shutil.which(name) is None]
    if not missing:
        return
    words = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise WindlassError(
            f"a node needs Debian's packages {words}; install them: sudo apt-get install {words}"
        )
    # dpkg that is interrupted leaves a machine on which nothing can be installed: who ends us waits for it
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        _install(missing)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _install(packages: list[str]) -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
        if done.returncode:
            raise WindlassError(
                f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()[-500:]}"
            )
