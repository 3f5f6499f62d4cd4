"""Just enough HTTP/1.1 for a few JSON endpoints: requests, answers, and who answers which."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One request; `headers` by their names in lower case, the last of those that came twice."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[str, tuple[str, Handler]]
"""What there is: path -> method and who answers it; HEAD goes where GET goes."""


def error(status: int, message: str) -> Response:
    """A refusal as JSON: `{"error": …}`."""
    return Response(status, json.dumps({"error": message}, separators=(",", ":")).encode())


def route(routes: Routes, request: Request) -> Handler | Response:
    """Who answers a request; the refusal of one that asks for what there is not."""
    found = routes.get(request.path)
    if found is None:
        return error(404, f"{request.path} is not known; there are {', '.join(routes)}")
    method, handle = found
    if request.method != method and (request.method, method) != ("HEAD", "GET"):
        refusal = error(405, f"{request.path} takes {method}, not {request.method}")
        return Response(refusal.status, refusal.body, headers=(("allow", method),))
    return handle
