"""The real Envoy before servers that cost nothing, and callers that cost little: the stage of the splits.

The servers are a second Envoy that answers by itself, so that what is measured is the split and not a server; it counts
what it receives, which is the other end of every account. The load comes over a few connections with requests in a row
(pipelined), from one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.release.parts import Progress
from serving.release.envoy.access_log import Access, AccessLog
from serving.release.envoy.admin import Admin, Counted
from serving.release.envoy.backend import Endpoints, EnvoyBackend
from serving.release.envoy.process import binary, free_port
from serving.release.traffic import all_to
from windlass.errors import WindlassError

MODEL = "flights"
VERSIONS = ("12", "13", "14")
USER_HEADER = "x-user-id"
CONNECTIONS, DEPTH = 16, 32
PATIENCE_S = 300.0
_BODY = b"ok"


@dataclass
class Stage:
    backend: EnvoyBackend
    servers: Servers
    log: AccessLog

    def address(self, version: str) -> str:
        return self.servers.addresses[version]

    def send(self, requests: Sequence[bytes], progress: Progress, what: str) -> list[str]:
        """The versions that answered, in the order of the requests; "" where the answer was no 200."""
        return asyncio.run(_send(self.backend.endpoints.listener, requests, progress, what))

    def logged(self, count: int) -> list[Access]:
        """The next `count` lines of the access log."""
        found: list[Access] = []
        deadline = time.monotonic() + 30
        while len(found) < count and time.monotonic() < deadline:
            found += self.log.poll()
            time.sleep(0.01)
        return found

    def settled(self, version: str, given: int) -> Counted:
        """Envoy's account of a version's copies, once none is in flight and `given` are known (or 10 s are over)."""
        deadline = time.monotonic() + 10
        while True:
            counted = self.backend.admin.counted(MODEL, version, copies=True)
            if (counted.given >= given and not counted.in_flight) or time.monotonic() > deadline:
                return counted
            time.sleep(0.02)

    def received(self) -> dict[str, int]:
        """Requests that each server has read so far."""
        return self.servers.received()

    def cpu_seconds(self) -> float:
        """CPU time of all of the proxy's threads so far."""
        threads = Path(f"/proc/{self.backend.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    with _servers(folder / "servers") as servers:
        backend = EnvoyBackend(folder / "envoy", Endpoints(free_port(), free_port(), folder / "access.jsonl"))
        for version, address in servers.addresses.items():
            backend.set_server(MODEL, version, address)
        backend.set_traffic(MODEL, all_to("12"))
        backend.start()
        try:
            yield Stage(backend, servers, AccessLog(backend.endpoints.access_log))
        finally:
            backend.stop()


@dataclass
class Servers:
    """Listeners of one Envoy that answers by itself."""

    addresses: dict[str, str]
    admin: Admin

    def received(self) -> dict[str, int]:
        return {
            v: self.admin.counters(f"^http.v{v}.downstream_rq_total$")[f"http.v{v}.downstream_rq_total"]
            for v in self.addresses
        }


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[Servers]:
    folder.mkdir(parents=True)
    ports = {version: free_port() for version in VERSIONS}
    admin = free_port()
    (folder / "bootstrap.json").write_text(json.dumps(_answering(ports, admin)))
    command = [
        str(binary()),
        "-c",
        str(folder / "bootstrap.json"),
        "--concurrency",
        "1",
        "--disable-hot-restart",
    ]
    log = folder / "envoy.log"
    process = subprocess.Popen([*command, "--log-level", "warning", "--log-path", str(log)])
    try:
        servers = Servers({v: f"127.0.0.1:{port}" for v, port in ports.items()}, Admin(admin))
        deadline = time.monotonic() + 30
        while not servers.admin.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise WindlassError(f"the servers' Envoy did not start: {log.read_text()[-500:]}")
            time.sleep(0.02)
        yield servers
    finally:
        process.terminate()
        process.wait(10)


def _answering(ports: Mapping[str, int], admin: int) -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters"
    listeners = []
    for version, port in ports.items():
        manager = {
            "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": f"v{version}",
            "generate_request_id": False,
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [
                            {
                                "match": {"prefix": "/"},
                                "direct_response": {"status": 200, "body": {"inline_string": _BODY.decode()}},
                            }
                        ],
                    }
                ]
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{kind}.http.router.v3.Router"},
                }
            ],
        }
        chain = {
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
        }
        where = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        listeners.append({"name": version, "address": where, "filter_chains": [chain]})
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": listeners},
    }


def request(user: str | None = None) -> bytes:
    unit = f"{USER_HEADER}: {user}\r\n" if user is not None else ""
    return f"GET /v1/models/{MODEL}:predict HTTP/1.1\r\nhost: windlass\r\n{unit}\r\n".encode()


async def _send(port: int, requests: Sequence[bytes], progress: Progress, what: str) -> list[str]:
    answered = [""] * len(requests)
    starts = iter(range(0, len(requests), DEPTH))
    done = 0

    async def connection() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in starts:
            batch = requests[start : start + DEPTH]
            writer.write(b"".join(batch))
            for number in range(start, start + len(batch)):
                answered[number] = await _answer(reader)
            done += len(batch)
            progress(done, len(requests), what)
        writer.close()

    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    except TimeoutError as error:
        raise WindlassError(
            f"{what}: {len(requests) - done} of {len(requests)} requests have no answer after {PATIENCE_S:g} s"
        ) from error
    return answered


async def _answer(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.index(b"content-length: ") + 16
    await reader.readexactly(int(head[at : head.index(b"\r", at)]))
    if not head.startswith(b"HTTP/1.1 200 "):
        return ""
    at = head.index(b"x-windlass-version: ") + 20
    return head[at : head.index(b"\r", at)].decode()
