"""`python3 -m windlass.operator`: the process of the operator's image; see docs/operator.md."""

from __future__ import annotations

import logging
import os
import signal
import sys

from serving.release.cluster.lease import Lease
from windlass import telemetry
from windlass.errors import WindlassError
from windlass.operator import composition, policy_publishing, settings
from windlass.operator.composition import Context
from windlass.operator.metrics import Metrics
from windlass.operator.process import THREADS
from windlass.operator.sight import Sight

#: Who looks after which custom resources; another kind is one more function here.
RECONCILERS = (composition.releases, policy_publishing.policies)


def main() -> int:
    """Run until SIGTERM or SIGINT (0), or until the watches end (1)."""
    telemetry.switch_off()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    metrics = Metrics()
    try:
        configured = settings.load()
        # through a door of its own: who must not write must still be able to become the leader
        lease = Lease(composition.connect(configured), configured.lease_namespace, configured.identity)
        api = composition.connect(configured, connections=THREADS)
        context = Context(configured, api, metrics)
        reconcilers = [make(context) for make in RECONCILERS]
        sight = Sight(composition.connect(configured), configured.namespaces)
        operator = composition.build(configured, lease, reconcilers, metrics, sight)
        api.fence(operator.process.acts, metrics.asked)
    except WindlassError as error:
        sys.stderr.write(f"windlass operator: {error}\n")
        return error.exit_code
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: operator.process.stop())
    logging.getLogger(__name__).info(
        "operator %s of namespaces %s, port %d",
        configured.identity,
        ", ".join(configured.namespaces),
        operator.page.port,
    )
    code = operator.process.run()
    operator.page.close()
    return code


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    # a turn that still waits for somebody would keep the process, and it is not to act any more
    os._exit(code)
