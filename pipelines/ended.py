"""The exit task's word: how a run ended is told to the retrain trigger, who counts it and calls a person if it failed.

A run that the trigger started is followed by it anyway; of one that a schedule or a person started nobody would hear.
Telling never fails the run: it has ended already, and what cannot be told stands in the task's log.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

EVENT = "dev.windlass.pipeline.ended"
URL, TOKEN = "WINDLASS_TRIGGER_URL", "WINDLASS_TRIGGER_TOKEN"
PATIENCE_S = 20.0
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
    workload: str, run: str, job: str, state: str, error: str, environ: Mapping[str, str] | None = None
) -> bool:
    """Say on stderr how the run ended, and send it to the trigger where one is named; whether it took it.

    Args:
        state: in the words of Kubeflow's release.
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
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S):  # noqa: S310
            return True
    except urllib.error.HTTPError as refused:
        said = refused.read(300).decode(errors="replace")
        _say(f"{url} answers {refused.code}: {said}")
    except OSError as failed:
        _say(f"{url} does not answer: {failed}")
    return False


def _say(text: str) -> None:
    sys.stderr.write(f"windlass | {text}\n")
    sys.stderr.flush()
