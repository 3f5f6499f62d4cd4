"""The retrain trigger of a stage: what Alertmanager tells it, what it journaled, what came of it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from monitoring.retrain import journal
from monitoring.retrain.signals import PastTrigger
from windlass.drill.stage import MODEL, Stage
from windlass.journal import read
from windlass.local import plane, state

TIMEOUT_S = 10.0


def alert(
    name: str, labels: Mapping[str, str], since: datetime, *, ended: datetime | None = None
) -> dict[str, Any]:
    """One alert as Alertmanager's webhook (version 4) has it."""
    own = {"alertname": name, **labels}
    return {
        "status": "firing" if ended is None else "resolved",
        "labels": own,
        "annotations": {"summary": f"{name} of a drill"},
        "startsAt": since.isoformat(),
        "endsAt": "0001-01-01T00:00:00Z" if ended is None else ended.isoformat(),
        "generatorURL": "http://prometheus.invalid/graph",
        "fingerprint": f"{abs(hash(tuple(sorted(own.items())))):016x}"[:16],
    }


def tell(
    stage: Stage, alerts: Sequence[Mapping[str, Any]], *, token: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Send a notification as Alertmanager does; status (0 where nobody answers) and answer.

    Args:
        token: another than the stage's own.
    """
    document = {
        "version": "4",
        "groupKey": "{}:{alertname}",
        "status": "firing",
        "receiver": "retrain",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.invalid",
        "alerts": list(alerts),
    }
    own = plane.token(stage.settings).read_text().strip()
    url = f"{state.read(stage.settings)['trigger_url']}/alertmanager"
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {own if token is None else token}",
    }
    request = urllib.request.Request(url, json.dumps(document).encode(), headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"{}")
    except OSError as error:
        return 0, {"error": str(error)}


def accepted(stage: Stage) -> tuple[PastTrigger, ...]:
    """The accepted triggers, oldest first."""
    return journal.history(journal.path(stage.settings), MODEL)


def events(stage: Stage, event: str) -> list[dict[str, Any]]:
    """The journal's records of one event."""
    return [
        r for r in read(journal.path(stage.settings)) if r["event"] == event and r.get("workload") == MODEL
    ]


def runs(stage: Stage) -> list[str]:
    """Names of the pipeline runs that the trigger began."""
    return sorted(p.name for p in (stage.settings.runs_dir / ".submitted").glob("*") if p.is_dir())
