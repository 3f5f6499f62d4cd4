"""Kubeflow Pipelines' v2beta1 API of a test's own: real HTTP, experiments, runs and recurring runs, and what was asked.

Single-user, or multi-user: then every request needs a token, experiments lie in namespaces, and a token holds for some.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_http import Listener

PREFIX = "/apis/v2beta1"
KINDS = {
    "experiments": ("experiments", "experiment_id", "e"),
    "runs": ("runs", "run_id", "r"),
    "recurringruns": ("recurring_runs", "recurring_run_id", "j"),
}
"""Path -> key of a list in an answer, key of an id, and how ids begin."""


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    authorization: str | None


@dataclass
class KfpServer:
    """What tests see of the server.

    Attributes:
        runs: as created, with run_id, state and times.
        asked: every request, oldest first.
        statuses: answers before any other, for the next requests; the status is all there is of them.
        lost: the next creation is carried out and its answer never sent.
        tokens: of a multi-user deployment, token -> namespaces that it holds for; None for a single-user one.
        most: objects on a page, whatever was asked for; None for no limit.
        filters: whether it knows `filter`.
        portal: answers every request with a page for people.
        refuse_creations: creating recurring runs is forbidden, and all else is not.
        refuse_changes_after: so many changes of recurring runs are carried out, the ones after them answered by 500.
    """

    url: str = ""
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    recurring_runs: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    lost: bool = False
    tokens: dict[str, set[str]] | None = None
    most: int | None = None
    filters: bool = True
    portal: bool = False
    refuse_creations: bool = False
    refuse_changes_after: int | None = None

    def calls(self) -> list[str]:
        return [f"{a.method} {a.path}" for a in self.asked]


class RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def running() -> Iterator[KfpServer]:
    told = KfpServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

        def do_GET(self) -> None:
            self._handle(None)

        def do_DELETE(self) -> None:
            self._handle(None)

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            self._handle(json.loads(self.rfile.read(length) or b"null"))

        def _handle(self, body: Any) -> None:
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            path = urllib.parse.unquote(parts.path.removeprefix(PREFIX))
            told.asked.append(Asked(self.command, path, query, body, self.headers.get("authorization")))
            if told.statuses:
                self._send(told.statuses.pop(0), {"error": "so it was scripted"})
                return
            if told.portal:
                self._send_text(200, "<html><body>Log in</body></html>", "text/html")
                return
            if told.refuse_creations and (self.command, path) == ("POST", "/recurringruns"):
                self._send(403, {"error": "so it was scripted"})
                return
            if (
                self.command != "GET"
                and path.startswith("/recurringruns")
                and told.refuse_changes_after is not None
            ):
                if told.refuse_changes_after == 0:
                    self._send(500, {"error": "so it was scripted"})
                    return
                told.refuse_changes_after -= 1
            try:
                self._send(200, self._answer(path, query, body))
            except RefusedError as refused:
                code = {400: 3, 401: 16, 403: 7, 404: 5}[refused.status]
                self._send(refused.status, {"error": str(refused), "code": code, "message": str(refused)})
            except ConnectionAbortedError:
                self.close_connection = True
                self.connection.close()

        def _answer(self, path: str, query: dict[str, str], body: Any) -> Any:
            if (self.command, path) == ("GET", "/healthz"):
                return {"multi_user": told.tokens is not None}
            found = re.fullmatch(r"/(experiments|runs|recurringruns)(?:/([^:/]+))?(?::(\w+))?", path)
            if found is None:
                raise RefusedError(404, f"{path} is not spoken here")
            kind, name, act = found.groups()
            if name is not None:
                return self._one(kind, name, act)
            if self.command == "POST":
                return self._create(kind, body)
            self._authorize(self._namespace(kind, query))
            return _page(kind, query, told)

        def _namespace(self, kind: str, query: dict[str, str]) -> str | None:
            if query.get("experiment_id"):
                return self._of_experiment(query["experiment_id"])
            return query.get("namespace") or None

        def _of_experiment(self, experiment: str | None) -> str | None:
            known = {e["experiment_id"]: e.get("namespace") for e in told.experiments}
            if experiment not in known:
                raise RefusedError(404, f"Experiment {experiment} not found")
            return known[experiment]

        def _authorize(self, namespace: str | None) -> None:
            if told.tokens is None:
                if namespace:
                    raise RefusedError(
                        400, "Invalid input error: In single-user mode, namespace must be empty"
                    )
                return
            scheme, _, token = (self.headers.get("authorization") or "").partition(" ")
            if scheme != "Bearer" or token not in told.tokens:
                raise RefusedError(401, "Request header error: there is no user identity header.")
            if not namespace:
                raise RefusedError(400, "Invalid input error: In multi-user mode, namespace cannot be empty")
            if namespace not in told.tokens[token]:
                raise RefusedError(403, f"User is not authorized to use namespace {namespace}")

        def _one(self, kind: str, name: str, act: str | None) -> Any:
            listed, key, _ = KINDS[kind]
            kept: list[dict[str, Any]] = getattr(told, listed)
            one = next((o for o in kept if o[key] == name), None)
            if one is None:
                raise RefusedError(404, f"{kind} {name} not found")
            self._authorize(self._of_experiment(one["experiment_id"]))
            if self.command == "DELETE":
                kept.remove(one)
                return {}
            if act is not None:
                one |= {"mode": act.upper(), "status": f"{act.upper()}D"}
                return {}
            return one

        def _create(self, kind: str, body: dict[str, Any]) -> Any:
            listed, key, begins = KINDS[kind]
            kept: list[dict[str, Any]] = getattr(told, listed)
            if kind == "experiments":
                self._authorize(body.get("namespace"))
            else:
                self._authorize(self._of_experiment(body["experiment_id"]))
            number = 1 + max((int(o[key][1:]) for o in kept), default=0)
            made = {**body, key: f"{begins}{number}"}
            if kind == "runs":
                made |= {"state": "PENDING", "created_at": "2026-01-01T00:00:00Z"}
            if kind == "recurringruns":
                if len(body["trigger"]["cron_schedule"]["cron"].split()) != 6:
                    raise RefusedError(400, "Invalid input error: Schedule cron is not supported")
                made |= {"status": f"{body['mode']}D", "created_at": "2026-01-01T00:00:00Z"}
            kept.append(made)
            if kind == "runs" and told.lost:
                told.lost = False
                raise ConnectionAbortedError
            return made

        def _send(self, status: int, content: Any) -> None:
            self._send_text(status, json.dumps(content), "application/json")

        def _send_text(self, status: int, text: str, kind: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = Listener(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _page(kind: str, query: dict[str, str], told: KfpServer) -> dict[str, Any]:
    listed = KINDS[kind][0]
    kept = [one for one in getattr(told, listed) if _matches(one, query, told.filters)]
    size = min(int(query.get("page_size") or 20), told.most or 1000)
    start = int(query.get("page_token") or 0)
    # the wire's only name that is not in snake case
    shown = "recurringRuns" if listed == "recurring_runs" else listed
    page: dict[str, Any] = {shown: kept[start : start + size], "total_size": len(kept)}
    if start + size < len(kept):
        page["next_page_token"] = str(start + size)
    return page


def _matches(one: dict[str, Any], query: dict[str, str], filters: bool) -> bool:
    if query.get("experiment_id") and one.get("experiment_id") != query["experiment_id"]:
        return False
    if query.get("namespace") and one.get("namespace") != query["namespace"]:
        return False
    predicates = json.loads(query.get("filter") or "{}").get("predicates", []) if filters else []
    # the enumeration's number and its name are the same in JSON of protocol buffers
    assert all(p["operation"] in (1, "EQUALS") for p in predicates)
    return all(one.get(p["key"]) == p["stringValue"] for p in predicates)
