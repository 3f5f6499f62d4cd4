"""Whether this machine can carry a node at all."""

from __future__ import annotations

import os
import platform


def no_node() -> str | None:
    """Why it cannot, whatever is installed; None where it can, and then what is missing fails instead of skipping."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "a node needs Linux and root: namespaces, mounts and cgroups are its own"
    return None
