"""The endpoints: take feedback, show the report, say how it goes."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from monitoring.collector.feedback_log import FeedbackLog
from monitoring.collector.http import Request, Response
from monitoring.labels import Label, validate
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

MOST_LABELS = 10_000
NO_REPORT = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>windlass report</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"></head><body style="font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:4em auto">
<h1>No report yet</h1><p>Run <code>windlass report</code>, then load this page again.</p></body></html>
"""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class App:
    """Answers requests; `now` gives the time of a label that names none."""

    def __init__(self, settings: Settings, log: FeedbackLog, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._log = log
        self._now = now
        self._registry = CollectorRegistry()
        self._labels = Counter(
            "windlass_feedback_labels", "Labels on the disk and acknowledged", registry=self._registry
        )
        self._refused = Counter(
            "windlass_feedback_refused",
            "Requests with feedback that was not kept",
            ["reason"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "windlass_feedback_commit_seconds",
            "Time from a valid request to its acknowledgement",
            registry=self._registry,
            buckets=BUCKETS,
        )
        pending = Gauge(
            "windlass_feedback_pending", "Requests that wait for the disk", registry=self._registry
        )
        pending.set_function(lambda: log.pending)
        self._routes = {
            "/feedback": ("POST", self._feedback),
            "/report": ("GET", self._report),
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._metrics),
        }

    async def __call__(self, request: Request) -> Response:
        route = self._routes.get(request.path)
        if route is None:
            return _error(404, f"{request.path} is not known; there are {', '.join(self._routes)}")
        method, handle = route
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            refusal = _error(405, f"{request.path} takes {method}, not {request.method}")
            return Response(refusal.status, refusal.body, headers=(("allow", method),))
        return await handle(request)

    async def _feedback(self, request: Request) -> Response:
        try:
            labels = parse(request.body, self._now())
        except UsageError as error:
            self._refused.labels("invalid").inc()
            return _error(400, str(error))
        started = time.perf_counter()
        try:
            await self._log.append(labels)
        except WindlassError as error:
            self._refused.labels("storage").inc()
            return _error(507, str(error))
        self._seconds.observe(time.perf_counter() - started)
        self._labels.inc(len(labels))
        return Response(200, orjson.dumps({"accepted": len(labels)}))

    async def _report(self, request: Request) -> Response:
        try:
            page = (self._settings.home / "report.html").read_bytes()
        except FileNotFoundError:
            page = NO_REPORT
        return Response(200, page, "text/html; charset=utf-8", (("cache-control", "no-store"),))

    async def _health(self, request: Request) -> Response:
        return Response(200, b'{"status":"ok"}')

    async def _metrics(self, request: Request) -> Response:
        return Response(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)


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


def _error(status: int, message: str) -> Response:
    return Response(status, orjson.dumps({"error": message}))
