"""An API server of a test's own: real HTTP, and of Kubernetes' wire what the release engine speaks.

Objects with resourceVersion and generation, server-side apply, merge patches that conflict, `Status` errors, the
defaults of an HTTPRoute, and the status that controllers write. What was asked is kept for the test to read, and
answers may be put in front of the real ones.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: Any
    authorization: str | None = None


@dataclass(frozen=True)
class Scripted:
    """An answer before any other; `hang` keeps the caller waiting until the server ends."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    hang: bool = False


@dataclass
class KubernetesServer:
    """What tests see of the server.

    Attributes:
        objects: path -> object.
        asked: every request, oldest first.
        scripted: answers to the next requests.
        controllers: called with path and object after a write and before a read; they change the object's status.
    """

    url: str = ""
    objects: dict[str, Object] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    scripted: list[Scripted] = field(default_factory=list)
    controllers: list[Callable[[str, Object], None]] = field(default_factory=list)
    #: plurals that no CRD defines, and fields of a spec that the CRD lacks
    dropped: set[str] = field(default_factory=set)
    #: message of a 403 for what it names, None for what may be done
    forbids: Callable[[Asked], str | None] = lambda asked: None
    version: int = 100

    def put(self, path: str, content: Object) -> Object:
        """Create or replace an object, as somebody else would."""
        old = self.objects.get(path)
        self.version += 1
        content = copy.deepcopy(content)
        namespace, name = path.split("/")[5], path.split("/")[7]
        generation = 1
        if old is not None:
            changed = old.get("spec") != content.get("spec")
            generation = old["metadata"]["generation"] + changed
        status = (old or {}).get("status", content.get("status", {}))
        content["metadata"] = {
            **content.get("metadata", {}),
            "name": name,
            "namespace": namespace,
            "resourceVersion": str(self.version),
            "generation": generation,
        }
        self.objects[path] = {**content, "status": status}
        self.control(path)
        return self.objects[path]

    def control(self, path: str) -> None:
        for controller in self.controllers:
            controller(path, self.objects[path])

    def writes(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method != "GET"]

    def client(self, **settings: Any) -> Any:
        """A real client of this server."""
        from kubernetes import client

        configuration = client.Configuration()
        configuration.host = self.url
        configuration.retries = 0
        return client.ApiClient(configuration, **settings)


@contextlib.contextmanager
def running() -> Iterator[KubernetesServer]:
    """Yield a server that is ended at the end, hanging requests too."""
    state = KubernetesServer()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = (
            -1
        )  # headers and body in one packet: the second of two waits for the first one's acknowledgement

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.answer()

        def do_PATCH(self) -> None:
            self.answer()

        def do_DELETE(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            asked = Asked(
                self.command,
                parts.path,
                query,
                self.headers.get("Content-Type", ""),
                json.loads(body) if body else None,
                self.headers.get("Authorization"),
            )
            state.asked.append(asked)
            if state.scripted:
                scripted = state.scripted.pop(0)
                if scripted.hang:
                    ended.wait()
                    self.close_connection = True
                    return
                self.send(scripted.status, scripted.body, scripted.content_type)
                return
            status, found = _answer(state, asked)
            self.send(status, json.dumps(found).encode(), "application/json")

        def send(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def _answer(state: KubernetesServer, asked: Asked) -> tuple[int, Object]:
    live = state.objects.get(asked.path)
    plural = asked.path.split("/")[6]
    forbidden = state.forbids(asked)
    if forbidden is not None:
        return 403, status(403, forbidden)
    if plural in state.dropped:
        return 404, status(404, "the server could not find the requested resource")
    if asked.method == "GET":
        if live is None:
            return 404, status(404, f"{plural} {asked.path.split('/')[7]!r} not found")
        state.control(asked.path)
        return 200, live
    if asked.method == "DELETE":
        if live is None:
            return 404, status(404, "not found")
        del state.objects[asked.path]
        return 200, status(200, "deleted")
    wanted = asked.body.get("metadata", {}).get("resourceVersion")
    if wanted is not None and (live is None or wanted != live["metadata"]["resourceVersion"]):
        return 409, status(
            409, "the object has been modified; please apply your changes to the latest version"
        )
    if asked.content_type == "application/apply-patch+yaml":
        content = _defaulted(plural, {**(live or {}), **asked.body})
    elif live is None:
        return 404, status(404, "not found")
    else:
        content = _merged(live, asked.body)
    for name in state.dropped & set(content.get("spec", {})):
        content["spec"] = {key: value for key, value in content["spec"].items() if key != name}
    return 200, state.put(asked.path, content)


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    found = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key), value)
    return found


def _defaulted(plural: str, content: Object) -> Object:
    """What the CRD of an HTTPRoute fills in."""
    if plural != "httproutes":
        return content
    content = copy.deepcopy(content)
    for ref in content["spec"].get("parentRefs", ()):
        ref.setdefault("group", "gateway.networking.k8s.io")
        ref.setdefault("kind", "Gateway")
    for rule in content["spec"].get("rules", ()):
        for match in rule.setdefault("matches", [{}]):
            match.setdefault("path", {"type": "PathPrefix", "value": "/"})
            for header in match.get("headers", ()):
                header.setdefault("type", "Exact")
        for ref in rule.get("backendRefs", ()):
            ref.setdefault("group", "")
            ref.setdefault("kind", "Service")
            ref.setdefault("weight", 1)
    return content
