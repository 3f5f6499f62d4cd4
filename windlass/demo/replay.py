"""The replay: event time advances hour by hour; features, requests, labels, releases and monitors follow it.

An hour is a tick: the feature rows of the full hour are pushed, the sampled flights of the hour are asked for
through Envoy over HTTP, labels that became known are sent back, and only when nothing is in flight any more do
the release engine and the monitors look. So the same seed gives the same decisions, however fast the machine is.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from windlass.demo.sampling import HOUR, Request
from windlass.local.client import Answer, Client


@dataclass
class Outcomes:
    """What became of every request, by its row."""

    status: dict[int, int] = field(default_factory=dict)
    version: dict[int, str] = field(default_factory=dict)
    score: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, request: Request, answer: Answer) -> None:
        self.status[request.row] = answer.status
        self.seconds[request.row] = answer.seconds
        self.version[request.row] = answer.headers.get("x-windlass-version", "")
        if answer.status == 200:
            self.score[request.row] = float(orjson.loads(answer.body)["predictions"][0])
        elif len(self.failures) < 20:
            self.failures.append(
                f"{request.request_id}: {answer.status} {answer.body[:200].decode(errors='replace')}"
            )

    @property
    def failed(self) -> int:
        return sum(1 for status in self.status.values() if status != 200)


class Traffic:
    """Sends the requests of an hour and the labels that have become known."""

    def __init__(
        self, predict_url: str, feedback_url: str, by_hour: dict[int, list[Request]], start: datetime
    ) -> None:
        self._predict_path = "/" + predict_url.split("/", 3)[3]
        # more at once would wait in the one model server's queue, and be counted as its latency
        self._client = Client(predict_url, connections=8)
        self._feedback_path = "/" + feedback_url.split("/", 3)[3]
        self._by_hour = by_hour
        self._due: dict[int, list[Request]] = defaultdict(list)
        self.outcomes = Outcomes()
        self.labels_sent = 0
        self.hour = int(start.timestamp()) // HOUR * HOUR

    def asks(self, hour: int) -> bool:
        """Whether any flight is asked for in the hour that begins at `hour`."""
        return bool(self._by_hour.get(hour))

    async def send_hour(self, hour: int) -> list[Request]:
        """Ask for every sampled flight of the hour that begins at `hour`; returns once all are answered."""
        requests = self._by_hour.get(hour, [])
        if not requests:
            return []
        answers = await asyncio.gather(*(self._ask(request) for request in requests))
        for request, answer in zip(requests, answers, strict=True):
            self.outcomes.add(request, answer)
            if request.label is not None and request.label_at is not None and answer.status == 200:
                self._due[max(int(request.label_at) // HOUR * HOUR, hour)].append(request)
        return requests

    async def send_labels(self, hour: int) -> int:
        """Send the labels that became known in the hour that begins at `hour`.

        Raises:
            ConnectionError: the feedback endpoint did not take them.
        """
        due = self._due.pop(hour, [])
        if not due:
            return 0
        body = orjson.dumps([{"request_id": r.request_id, "label": r.label, "at": r.label_at} for r in due])
        answer = await self._client.post(self._feedback_path, body)
        if answer.status not in (200, 202, 204):
            raise ConnectionError(f"feedback was answered {answer.status}: {answer.body[:200]!r}")
        self.labels_sent += len(due)
        return len(due)

    async def _ask(self, request: Request) -> Answer:
        headers = {
            "x-request-id": request.request_id,
            "x-windlass-random": str(request.draw),
            "x-windlass-at": repr(request.at),
        }
        return await self._client.post(self._predict_path, request.body, headers)

    def close(self) -> None:
        self._client.close()


def moment(hour: int) -> datetime:
    """Event time as a datetime."""
    return datetime.fromtimestamp(hour, UTC)
