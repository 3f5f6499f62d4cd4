"""`make cluster-up`: a node with all that Windlass needs on it, until Ctrl-C; prints what to set KUBECONFIG to."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster.node import platform
from tests.cluster.node.node import Node

IMAGES = ("gateway", "operator", "redis", "serving", "training")


def main() -> None:
    """Bring it up and wait."""
    with tempfile.TemporaryDirectory(prefix="wl-") as name:
        folder = Path(name)
        with Node(folder, sys.argv[1:] or IMAGES) as node:
            platform.install(node)
            node.wait_for_images()
            print(f"export KUBECONFIG={node.kubeconfig}", flush=True)
            print(
                f"# gateways answer on http://{node.address}:{platform.NODE_PORT}; Ctrl-C ends it", flush=True
            )
            signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
