"""The endpoints: take events, predictions and feedback, answer about releases, show the report, say how it goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable

import orjson
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from monitoring.collector import follower
from monitoring.collector.feedback_log import FeedbackLog
from monitoring.collector.http import Handler, Request, Response, route
from monitoring.collector.intake import Entry, Intake
from monitoring.collector.journal import FullError, Journal
from monitoring.collector.wal import StorageError
from monitoring.labels import Label, validate
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

MOST_LABELS = 10_000
NO_REPORT = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>windlass report</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"></head><body style="font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:4em auto">
<h1>No report yet</h1><p><code>windlass up</code> keeps one here. On a cluster nobody does: dashboards, the Release and
the analyses say what goes on.</p></body></html>
"""
STORAGE_RETRY_S = 5


class App:
    """Answers requests.

    Args:
        now: gives the time of a label that names none.
        evidence: answers about releases.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        intake: Intake,
        log: FeedbackLog,
        now: Callable[[], float] = time.time,
        evidence: Handler | None = None,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._intake = intake
        self._log = log
        self._now = now
        self._metrics = journal.metrics
        self._routes: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
            "/": ("POST", self._events),
            "/events": ("POST", self._events),
            "/predictions": ("POST", self._predictions),
            "/feedback": ("POST", self._feedback),
            "/report": ("GET", self._report),
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._show_metrics),
        }
        if evidence is not None:
            self._routes["/v1/evidence"] = ("POST", evidence)

    async def __call__(self, request: Request) -> Response:
        handle = route(self._routes, request)
        if isinstance(handle, Response):
            return handle
        try:
            return await handle(request)
        except UsageError as error:
            return self._refused("invalid", _error(400, str(error)))
        except FullError as error:
            return self._refused("full", _error(503, str(error), retry_after=error.retry_after))
        except StorageError as error:
            return self._refused("storage", _error(507, str(error), retry_after=STORAGE_RETRY_S))
        except WindlassError as error:
            # a missing key, a workload that does not load: ours to mend, and the sender's to try again
            return self._refused("invalid", _error(503, str(error), retry_after=STORAGE_RETRY_S))

    def _refused(self, reason: str, response: Response) -> Response:
        self._metrics.refused.labels(reason).inc()
        return response

    async def _events(self, request: Request) -> Response:
        self._journal.check_room(len(request.body))
        return await self._keep(self._intake.events(request.headers, request.body))

    async def _predictions(self, request: Request) -> Response:
        self._journal.check_room(len(request.body))
        return await self._keep(self._intake.predictions(request.body))

    async def _keep(self, entries: list[Entry]) -> Response:
        if entries:
            await self._journal.append(follower.lines(entries))
        for kind, count in Counter(entry["type"] for entry in entries).items():
            self._metrics.events.labels(kind).inc(count)
        return Response(200, orjson.dumps({"accepted": len(entries)}))

    async def _feedback(self, request: Request) -> Response:
        if self._log.commits.pending_bytes > self._journal.options.pending_bytes:
            raise FullError(f"{self._log.commits.pending} requests wait for the disk; send it again later", 1)
        labels = parse(request.body, self._now())
        try:
            await self._log.append(labels)
        except StorageError:
            self._journal.storage_failed()
            raise
        self._metrics.events.labels("label").inc(len(labels))
        return Response(200, orjson.dumps({"accepted": len(labels)}))

    async def _report(self, request: Request) -> Response:
        try:
            page = (self._settings.home / "report.html").read_bytes()
        except FileNotFoundError:
            page = NO_REPORT
        return Response(200, page, "text/html; charset=utf-8", (("cache-control", "no-store"),))

    async def _health(self, request: Request) -> Response:
        return Response(200, b'{"status":"ok"}')

    async def _show_metrics(self, request: Request) -> Response:
        return Response(200, generate_latest(self._metrics.registry), CONTENT_TYPE_LATEST)


def parse(body: bytes, now: float) -> list[Label]:
    """Read one feedback object or a list of them; one that is wrong refuses all.

    Raises:
        UsageError: what is wrong, by field.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the body is not JSON ({error}); send one object or a list of them") from None
    if not isinstance(content, list):
        return [validate(content, now=now)]
    if len(content) > MOST_LABELS:
        raise UsageError(f"the body lists {len(content)} labels; send at most {MOST_LABELS} at once")
    return [validate(record, now=now, place=f"[{i}].") for i, record in enumerate(content)]


def _error(status: int, message: str, *, retry_after: int | None = None) -> Response:
    headers = () if retry_after is None else (("retry-after", str(retry_after)),)
    return Response(status, orjson.dumps({"error": message}), headers=headers)
