"""The exit task's word: how a run ended is told to the retrain trigger, who counts it and calls a person if it failed.

A run that the trigger started is followed by it anyway; of one that a schedule or a person started nobody would hear.
So a trigger that is just being started anew is asked again for some minutes; where its answer alone was lost, it counts
the run twice, which is better than never.
Telling never fails the run: it has ended already, and what cannot be told stands in the task's log.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

EVENT = "dev.windlass.pipeline.ended"
URL, TOKEN = "WINDLASS_TRIGGER_URL", "WINDLASS_TRIGGER_TOKEN"
PATIENCE_S = 20.0
PAUSES_S = (2.0, 10.0, 30.0, 60.0, 120.0)
"""Before each further try; with all of its patience it stays within the time of its pod."""
STATES = {
    "SUCCEEDED": "SUCCEEDED", "COMPLETE": "SUCCEEDED", "CACHED": "SUCCEEDED", "FAILED": "FAILED",
    "CANCELED": "CANCELLED", "CANCELLED": "CANCELLED", "CANCELING": "CANCELLED", "SKIPPED": "SKIPPED",
}  # fmt: skip
"""What Kubeflow says of the group of steps -> what became of the run; releases differ in their words, and some ask a
group that has ended and is not marked so yet."""
UNKNOWN = "UNKNOWN"


def event(workload: str, run: str, job: str, state: str, error: str) -> dict[str, Any]:
    """The CloudEvent of a run that ended.

    Args:
        run: the trigger's id where a trigger started it, else empty.
        job: Kubeflow's id of the run.
        state: SUCCEEDED, FAILED, CANCELLED, SKIPPED or UNKNOWN.
    """
    return {
        "specversion": "1.0",
        "id": f"{job}/{state}",
        "source": "/kubeflow/pipelines",
        "type": EVENT,
        "datacontenttype": "application/json",
        "data": {"workload": workload, "run": run or job, "job": job, "state": state, "error": error[:2000]},
    }


def tell(
    workload: str,
    run: str,
    job: str,
    state: str,
    error: str,
    environ: Mapping[str, str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Say on stderr how the run ended, and send it to the trigger where one is named; whether it took it.

    Args:
        state: in the words of Kubeflow's release.
        sleep: waits so many seconds before another try.
    """
    env = os.environ if environ is None else environ
    state = STATES.get(state, UNKNOWN)
    content = event(workload, run, job, state, error)
    _say(f"run {run or job} of {workload} ended {state}" + (f": {error}" if error else ""))
    url = env.get(URL)
    if not url:
        _say(f"{URL} is not set: nobody else is told")
        return False
    if not url.startswith(("http://", "https://")):
        _say(f"{URL}={url!r} is no address; use for example http://windlass-retrain:8080")
        return False
    headers = {"Content-Type": "application/cloudevents+json"}
    if env.get(TOKEN):
        headers["Authorization"] = f"Bearer {env[TOKEN].strip()}"
    request = urllib.request.Request(  # noqa: S310 - http and https alone, above
        f"{url.rstrip('/')}/events", json.dumps(content).encode(), headers, method="POST"
    )
    for pause in (*PAUSES_S, None):
        problem, passing = _send(request)
        if problem is None:
            return True
        _say(f"{url} {problem}" + ("" if pause is None or not passing else f"; again in {pause:g} s"))
        if pause is None or not passing:
            return False
        sleep(pause)
    return False


def _send(request: urllib.request.Request) -> tuple[str | None, bool]:
    """What went wrong, None where nothing did; and whether another try may help."""
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S):  # noqa: S310
            return None, False
    except urllib.error.HTTPError as refused:
        with refused:
            said = refused.read(300).decode(errors="replace")
        return f"answers {refused.code}: {said}", refused.code >= 500 or refused.code == 429
    except (OSError, http.client.HTTPException, ValueError) as failed:
        # a ValueError is of an address or a token that cannot be sent
        return f"does not answer: {failed}", not isinstance(failed, ValueError)


def _say(text: str) -> None:
    sys.stderr.write(f"windlass | {text}\n")
    sys.stderr.flush()
