"""Build all that a node is made of, where it is not there: `python -m tests.cluster.node.prepare`.

For the time in which other tests run (`.ci/run`): once the API server's tier has its programs, which those tests wait
for, it takes one processor at most, and that only where nobody else wants it.
"""

from __future__ import annotations

import os
import platform
import signal
import sys

from tests.cluster.node.images import archive
from tests.cluster.node.releases import IMAGES
from tests.cluster.tools import build
from tests.cluster.tools.catalogue import API_TIER, TOOLS
from windlass.errors import WindlassError


def main() -> int:
    """Build it; returns the exit code."""
    # what it has started ends with it: `subprocess.run` kills its child on the way out
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    code = build.main(["--api-tier"])
    if code:
        return code
    os.nice(19)
    os.environ["GOMAXPROCS"] = "1"  # what `go build` takes for the number of processors
    code = build.main([name for name in TOOLS if name not in API_TIER])
    if code:
        return code
    if platform.system() != "Linux" or os.geteuid() != 0:
        print("images are not built: that needs Linux and root")
        return 0
    try:
        for name in ("pause", *IMAGES):
            print(f"{name} is there: {archive(name)}", flush=True)
    except WindlassError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
