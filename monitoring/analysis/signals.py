"""What the retrain trigger is told of an analysis: incidents that began, that go on, and that ended.

An incident is one thing that is wrong with one champion, from the first analysis that says so to the first that says
the contrary. An analysis that cannot tell neither begins nor ends one.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitoring.analysis.analysis import Analysis
from monitoring.retrain.signals import INCIDENTS
from windlass.errors import WindlassError

TYPE = "dev.windlass.retrain.signal"
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Incident:
    """One incident of one champion; times are ISO 8601 in UTC.

    Attributes:
        ended: when it was over; None while it goes on.
        certain: whether this analysis says so; False where it cannot tell and the incident is carried on.
    """

    workload: str
    kind: str
    champion: str
    since: str
    ended: str | None
    certain: bool
    reason: str

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent (structured mode) that tells it; the same incident has the same id, however often told."""
        began = f"{self.workload}/{self.champion}/{self.kind}/{self.since}"
        data: dict[str, Any] = {
            "workload": self.workload,
            "kind": self.kind,
            "champion": self.champion,
            "at": self.since,
            "detail": {"reason": self.reason},
        }
        if self.ended is not None:
            data["ended"] = self.ended
        return {
            "specversion": "1.0",
            "type": TYPE,
            "source": "windlass/analysis",
            "id": began if self.ended is None else f"{began}/ended",
            "datacontenttype": "application/json",
            "data": data,
        }


def incidents(analysis: Analysis, before: Sequence[Mapping[str, Any]]) -> tuple[Incident, ...]:
    """Those that go on at the end of the window, and those that ended with it.

    Args:
        before: what the analysis before this one gave, as `document` has it.
    """
    end = datetime.fromtimestamp(analysis.end, UTC).isoformat()
    # one that ended with this very window: the analysis is made again and must say the same
    open_before = {
        (i["kind"], i["champion"]): i for i in before if i["ended"] in (None, end) and i["since"] <= end
    }
    champion = analysis.champion
    found: list[Incident] = []
    for kind in INCIDENTS if champion is not None else ():
        assert champion is not None  # noqa: S101 - the loop is empty without one
        check = champion.check(kind)
        known = open_before.pop((kind, champion.version), None)
        if known is None and check.verdict != "FAIL":
            continue
        found.append(
            Incident(
                analysis.workload,
                kind,
                champion.version,
                since=end if known is None else known["since"],
                ended=end if check.verdict == "PASS" else None,
                certain=check.verdict != "INCONCLUSIVE",
                reason=check.reason,
            )
        )
    if champion is not None:
        # what was wrong with a version that has been replaced is over
        found += [
            Incident(
                analysis.workload, kind, old, i["since"], end, True, f"version {champion.version} answers now"
            )
            for (kind, old), i in open_before.items()
        ]
    return tuple(found)


def document(found: Sequence[Incident]) -> list[dict[str, Any]]:
    """As JSON values."""
    return [asdict(i) for i in found]


def send(found: Sequence[Incident], url: str, token: Path | None) -> int:
    """Tell the trigger's service; return how many events it took.

    Args:
        url: where it takes CloudEvents.
        token: a file with the bearer token; never the token itself, which would stand in the list of processes.

    Raises:
        WindlassError: it does not take them; the next analysis tells it again.
    """
    events = [i.event for i in found if i.certain]
    if not events:
        return 0
    headers = {"content-type": "application/cloudevents-batch+json"}
    if token is not None:
        try:
            headers["authorization"] = f"Bearer {token.read_text().strip()}"
        except OSError as error:
            raise WindlassError(f"the trigger's token cannot be read: {error}; see --token-file") from error
    try:
        request = urllib.request.Request(url, json.dumps(events).encode(), headers, method="POST")  # noqa: S310
    except ValueError as error:
        raise WindlassError(f"--signals-to {url!r} is no address: {error}") from error
    # it stands beside us: a proxy for the outside world is never the way to it
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace")
        raise WindlassError(f"the trigger at {url} answered {error.code}: {said}") from error
    except (OSError, http.client.HTTPException) as error:
        raise WindlassError(
            f"the trigger at {url} does not answer: {getattr(error, 'reason', error)}"
        ) from error
    return len(events)
