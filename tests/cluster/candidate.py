"""A program that wants to lead and writes a journal once it does; started several times by `test_lease.py`.

It asks only once whether it leads and never again, as a process that was stopped between two lines would: whatever
keeps it from writing beside its successor must be the journal's own doing.

Lines on standard output: `looked N HOLDER` while it waits, `leads after N looks`, `appended SEQ`, `overtaken`,
`gave back`.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

from serving.release.backend import UnreachableError
from serving.release.cluster import lease
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.lease import Lease, Wait
from serving.release.cluster.store import ClusterStore, OvertakenError
from serving.release.journal.store import Entry

ENTRY = Entry("flights", 1, "flights-13")

#: About half of the real times, and looks that are closer: who may act must not lose that to a machine that is busy.
DURATION_S, ACTS_FOR_S, EVERY_S, TIMEOUT_S = 8.0, 6.0, 0.4, 4.0


def main(kubeconfig: str, namespace: str, identity: str) -> int:
    lease.DURATION_S, lease.ACTS_FOR_S, lease.EVERY_S = DURATION_S, ACTS_FOR_S, EVERY_S
    lease.TIMEOUT_S = TIMEOUT_S
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    api = KubernetesApi.connect(Path(kubeconfig), timeout_s=TIMEOUT_S)
    ours = Lease(api, namespace, identity)
    looks = 0
    while not ours.leads():
        try:
            step = ours.turn()
        except UnreachableError:
            continue  # it was no look
        looks += 1
        if isinstance(step, Wait):
            say(f"looked {looks} {step.holder}")
            time.sleep(EVERY_S)
    say(f"leads after {looks} looks")
    keeping = threading.Thread(target=ours.keep, args=(stop, lambda: None), daemon=True)
    keeping.start()
    store = ClusterStore(api, namespace, identity)
    store.entries(ENTRY.model)
    seq = sum(1 for _ in store.records(ENTRY))
    while not stop.is_set():
        record = {"kind": "decision" if seq else "release", "seq": seq, "by": identity}
        try:
            store.append(ENTRY, record)
        except OvertakenError:
            say("overtaken")
            return 3
        say(f"appended {seq}")
        seq += 1
        time.sleep(0.02)
    keeping.join()
    say("gave back")
    return 0


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
