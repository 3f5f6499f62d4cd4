"""An API server of a test's own: real HTTP, and of Kubernetes' wire what the release engine speaks.

Objects with resourceVersion and generation, server-side apply, merge and JSON patches that conflict, lists in pages,
watches, `Status` errors, the defaults of an HTTPRoute, and the status that controllers write. What was asked is kept
for the test to read, and answers may be put in front of the real ones.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_http import Listener

Object = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: Any
    authorization: str | None = None
    accept: str = ""


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
    #: what a watch tells, oldest first; and the version before which all is forgotten
    changes: list[tuple[str, Object]] = field(default_factory=list)
    forgotten: int = 0

    def put(self, path: str, content: Object) -> Object:
        """Create or replace an object, as somebody else would."""
        old = self.objects.get(path)
        self.version += 1
        content = copy.deepcopy(content)
        *_, namespace, _, name = path.split("/")
        generation = 1
        if old is not None:
            changed = old.get("spec") != content.get("spec")
            generation = old["metadata"]["generation"] + changed
        status = (old or {}).get("status", content.get("status", {}))
        content["metadata"] = {
            **content.get("metadata", {}),
            "name": name,
            "namespace": namespace,
            "uid": old["metadata"]["uid"] if old is not None else f"uid-{self.version}",
            "resourceVersion": str(self.version),
            "generation": generation,
        }
        if old is not None and "creationTimestamp" in old["metadata"]:
            content["metadata"]["creationTimestamp"] = old["metadata"]["creationTimestamp"]
        self.objects[path] = {**content, "status": status}
        self.control(path)
        self.changes.append(("ADDED" if old is None else "MODIFIED", copy.deepcopy(self.objects[path])))
        return self.objects[path]

    def remove(self, path: str) -> None:
        """Delete an object, as somebody else would."""
        self.version += 1
        gone = self.objects.pop(path)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self.changes.append(("DELETED", gone))

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
    ended, one_at_a_time = threading.Event(), threading.Lock()

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

        def do_POST(self) -> None:
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
                self.headers.get("Accept", ""),
            )
            # who is asked by several may not have a version checked between another's check and write
            with one_at_a_time:
                state.asked.append(asked)
                scripted = state.scripted.pop(0) if state.scripted else None
                if scripted is None:
                    status, found = answer(state, asked)
                    many = isinstance(found, list)
                    text = b"".join(json.dumps(line).encode() + b"\n" for line in found) if many else b""
                    scripted = Scripted(status, text if many else json.dumps(found).encode())
            if scripted.hang:
                ended.wait()
                self.close_connection = True
                return
            self.send(scripted.status, scripted.body, scripted.content_type)

        def send(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = Listener(("127.0.0.1", 0), Handler)
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


def answer(state: KubernetesServer, asked: Asked) -> tuple[int, Any]:
    """Status and object; of a watch, its lines."""
    path = asked.path.split("/")
    plural = path[path.index("namespaces") + 2]
    named = len(path) > path.index("namespaces") + 3
    forbidden = state.forbids(asked)
    if forbidden is not None:
        return 403, status(403, forbidden)
    if plural in state.dropped:
        return 404, status(404, "the server could not find the requested resource")
    if asked.method == "POST":
        return _created(state, asked, plural)
    if not named:
        return _watched(state, asked) if asked.query.get("watch") else _listed(state, asked)
    live = state.objects.get(asked.path.removesuffix("/status"))
    if live is None and (asked.method != "PATCH" or asked.content_type != "application/apply-patch+yaml"):
        return 404, status(404, f"{plural} {path[-1]!r} not found")
    if asked.method == "GET":
        state.control(asked.path)
        return 200, live
    if asked.method == "DELETE":
        assert live is not None
        wanted = ((asked.body or {}).get("preconditions") or {}).get("uid")
        if wanted not in (None, live["metadata"]["uid"]):
            return 409, status(409, f"Precondition failed: UID in precondition: {wanted}")
        state.remove(asked.path)
        return 200, status(200, "deleted")
    return _patched(state, asked, plural, live)


def _created(state: KubernetesServer, asked: Asked, plural: str) -> tuple[int, Object]:
    path = f"{asked.path}/{asked.body['metadata']['name']}"
    if path in state.objects:
        return 409, status(409, f"{plural} {path.rpartition('/')[2]!r} already exists")
    return 201, state.put(path, _defaulted(plural, asked.body))


def _patched(state: KubernetesServer, asked: Asked, plural: str, live: Object | None) -> tuple[int, Object]:
    body = asked.body
    if asked.content_type == "application/json-patch+json":
        assert live is not None
        try:
            content = _operated(live, body)
        except (KeyError, IndexError, ValueError) as error:
            return 422, status(
                422, f"the server rejected our request due to an error in our request: {error}"
            )
        body = content
    wanted = body.get("metadata", {}).get("resourceVersion")
    if wanted is not None and (live is None or wanted != live["metadata"]["resourceVersion"]):
        return 409, status(
            409, "the object has been modified; please apply your changes to the latest version"
        )
    if asked.path.endswith("/status"):
        if live is None:
            return 404, status(404, "not found")
        path = asked.path.removesuffix("/status")
        live["status"] = _merged(live.get("status", {}), body.get("status", {}))
        return 200, state.put(path, live)
    if asked.content_type == "application/apply-patch+yaml":
        content = _defaulted(plural, {**(live or {}), **body})
    elif asked.content_type != "application/json-patch+json":
        content = _merged(live, body)
    for name in state.dropped & set(content.get("spec", {})):
        content["spec"] = {key: value for key, value in content["spec"].items() if key != name}
    return 200, _shown(state.put(asked.path, content), asked)


def _operated(live: Object, operations: list[Object]) -> Object:
    """RFC 6902, as far as `add`, `replace` and `remove` go; an index must be there, or for `add` the next."""
    found = copy.deepcopy(live)
    for operation in operations:
        *way, last = (key.replace("~1", "/").replace("~0", "~") for key in operation["path"].split("/")[1:])
        place: Any = found
        for key in way:
            place = place[int(key)] if isinstance(place, list) else place[key]
        if isinstance(place, list):
            index = len(place) if last == "-" else int(last)
            if index > len(place) - (operation["op"] != "add"):
                raise IndexError(f"index {index} of {operation['path']}")
            if operation["op"] != "add":
                del place[index]
            if operation["op"] != "remove":
                place.insert(index, operation["value"])
        elif operation["op"] == "remove":
            del place[last]
        elif operation["op"] == "replace" and last not in place:
            raise KeyError(operation["path"])
        else:
            place[last] = operation["value"]
    return found


def _listed(state: KubernetesServer, asked: Asked) -> tuple[int, Object]:
    """In pages; what is to come is named by the path to go on after."""
    wanted = [path for path in sorted(state.objects) if _chosen(state.objects[path], path, asked)]
    after, version = "", str(state.version)
    if "continue" in asked.query:
        version, _, after = asked.query["continue"].partition(" ")
        if int(version) < state.forgotten:
            return 410, status(410, "The provided continue parameter is too old")
    wanted = [path for path in wanted if path > after]
    limit = int(asked.query.get("limit") or len(wanted) or 1)
    metadata = {"resourceVersion": version}
    if len(wanted) > limit:
        metadata["continue"] = f"{version} {wanted[limit - 1]}"
    return 200, {
        "kind": "List",
        "metadata": metadata,
        "items": [_shown(state.objects[path], asked) for path in wanted[:limit]],
    }


def _watched(state: KubernetesServer, asked: Asked) -> tuple[int, Any]:
    """What happened since then; the time of the watch is over at once."""
    since = int(asked.query["resourceVersion"])
    if since < state.forgotten:
        return 200, [{"type": "ERROR", "object": status(410, f"too old resource version: {since}")}]
    prefix = f"{asked.path}/"
    lines = [
        {"type": kind, "object": found}
        for kind, found in state.changes
        if int(found["metadata"]["resourceVersion"]) > since
        and _chosen(found, prefix + found["metadata"]["name"], asked)
    ]
    bookmark = {"metadata": {"resourceVersion": str(state.version)}}
    return 200, [*lines, {"type": "BOOKMARK", "object": bookmark}]


def _chosen(found: Object, path: str, asked: Asked) -> bool:
    labels = found["metadata"].get("labels") or {}
    for term in filter(None, asked.query.get("labelSelector", "").split(",")):
        key, equals, value = term.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return path.startswith(f"{asked.path}/")


def _shown(found: Object, asked: Asked) -> Object:
    if "as=PartialObjectMetadata" not in asked.accept:
        return found
    return {"kind": "PartialObjectMetadata", "metadata": found["metadata"]}


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
