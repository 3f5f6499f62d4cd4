"""A real Prometheus that scrapes the real page of a model server: what is counted is what happened, to the last one."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import prometheus_server
import pytest
from local_http import Listener
from patience import wait
from prometheus_server import INTERVAL_S, PrometheusServer

from serving.release.envoy import process as envoy_process
from serving.release.prometheus.client import Prometheus
from serving.release.prometheus.source import PrometheusSource
from serving.release.prometheus.templates import ENVOY, RUNTIME, runtime
from serving.runtime.metrics import Metrics

VERSIONS = ("12", "13")


class ModelServer:
    """The metrics page of a model server that serves two versions, and can be restarted at its address."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.labelled = True
        self._load()
        self.port = 0
        self.start()

    @property
    def instance(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        model_server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                body = model_server.page()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = Listener(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def page(self) -> bytes:
        """What is scraped; of an older image without the label, which knew one series where there are two now."""
        page = self.metrics.page([])
        if self.labelled:
            return page
        added: dict[str, float] = {}
        for line in page.decode().splitlines():
            if not line.startswith("#"):
                series, value = re.sub(r',assigned="\w+"', "", line).rsplit(" ", 1)
                added[series] = added.get(series, 0.0) + float(value)
        return "".join(f"{series} {value}\n" for series, value in added.items()).encode()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def restart(self) -> None:
        """A new process: every counter is gone."""
        self.stop()
        self.metrics = Metrics()
        self._load()
        self.start()

    def _load(self) -> None:
        for version in VERSIONS:
            self.metrics.of("flights", version)

    def answer(
        self,
        version: str,
        count: int,
        *,
        failed: int = 0,
        seconds: float = 0.004,
        route: bytes | None = None,
    ) -> None:
        counts = self.metrics.of("flights", version).of(route)
        for number in range(count):
            counts.answered("v2", 503 if number < failed else 200, seconds)


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    with contextlib.suppress(OSError):
        server.stop()


@pytest.fixture
def prometheus(tmp_path: Path, model_server: ModelServer) -> Iterator[PrometheusServer]:
    with prometheus_server.running(tmp_path, [model_server.instance]) as server:
        yield server


def now() -> datetime:
    return datetime.now(UTC)


def test_counts_are_what_happened(prometheus: PrometheusServer, model_server: ModelServer) -> None:
    """Verify exact counts from the start of a release, over a restart of the servers and of the engine, and every
    kind of silence: a metric that is misspelled, servers that are down, a Prometheus that is down."""
    # before the release: history of the champion, which must not count
    model_server.answer("12", 1000, failed=100)
    prometheus.scraped(model_server.instance, time.time())
    since = now()
    client = Prometheus(prometheus.url)

    def source(**more: Any) -> PrometheusSource:
        return PrometheusSource(
            client, "flights", since, scrape_interval_s=INTERVAL_S, late_after=20.0, **more
        )

    def look(of: PrometheusSource) -> Any:
        prometheus.scraped(model_server.instance, time.time())
        seen = of.evidence(VERSIONS, now())
        assert seen.silent == {} and seen.faults == {}
        return {v: (arm.requests, arm.errors, arm.latencies.n) for v, arm in seen.arms.items()}

    followed = source()
    assert look(followed) == {"12": (0, 0, 0), "13": (0, 0, 0)}

    model_server.answer("12", 900, failed=9)
    model_server.answer("13", 100, failed=7, seconds=0.3)
    assert look(followed) == {"12": (900, 9, 900), "13": (100, 7, 100)}
    latencies = followed.evidence(VERSIONS, now()).arms["13"].latencies
    assert latencies is not None and latencies.above(250.0) == 100 and latencies.above(500.0) == 0

    model_server.restart()
    model_server.answer("12", 40, failed=20)  # more failures than the old process ever had
    model_server.answer("13", 5)
    assert look(followed) == {"12": (940, 29, 940), "13": (105, 7, 105)}

    # an engine that starts anew, with and without what the old one kept
    assert look(source(state=followed.state())) == {"12": (940, 29, 940), "13": (105, 7, 105)}
    assert look(source()) == {"12": (940, 29, 940), "13": (105, 7, 105)}

    misspelled = replace(RUNTIME.responses, promql=RUNTIME.responses.promql.replace("requests", "request"))
    silent = source(queries=replace(RUNTIME, responses=misspelled)).evidence(VERSIONS, now()).silent
    assert "no series of windlass_request_total for version 12" in silent["prometheus"]
    silent = source().evidence((*VERSIONS, "14"), now()).silent
    assert "for version 14" in silent["prometheus"]
    fault = source(queries=replace(RUNTIME, responses=replace(misspelled, promql="sum(")))
    assert "refuses the query" in fault.evidence(VERSIONS, now()).faults["errorRate"]

    (target,) = followed.scraped(VERSIONS)["12"]

    # a scrape of the restart may have failed, and so may one of a machine that stalls
    def well() -> bool:
        lately = followed.up([target], now(), 4 * INTERVAL_S).get(target, {})
        return lately != {} and all(lately.values())

    wait(well, "a second without a failed scrape")
    assert followed.up([(("instance", "elsewhere"),)], now(), 60.0) == {}
    model_server.stop()
    prometheus.scraped(model_server.instance, time.time(), up=False)
    assert not followed.up([target], now(), 60.0)[target].popitem()[1]
    late = followed.evidence(VERSIONS, now() + timedelta(seconds=20 * INTERVAL_S))
    assert "late: the newest sample of version 12" in late.silent["prometheus"]
    assert late.arms["12"].requests == 940

    prometheus.stop()
    down = followed.evidence(VERSIONS, now())
    assert "does not answer" in down.silent["prometheus"] and down.arms["13"].requests == 105


def test_callers_who_chose_the_version_are_told_apart(
    prometheus: PrometheusServer, model_server: ModelServer
) -> None:
    """Verify what each set counts where some callers chose, where all of a version's did, and where servers have no
    such label."""
    prometheus.scraped(model_server.instance, time.time())
    since, client = now(), Prometheus(prometheus.url)
    sources = {
        backend: PrometheusSource(
            client, "flights", since, queries=runtime(backend), scrape_interval_s=INTERVAL_S, late_after=20.0
        )
        for backend in ("gateway", "kserve")
    }

    def look(backend: str) -> Any:
        prometheus.scraped(model_server.instance, time.time())
        seen = sources[backend].evidence(VERSIONS, now())
        assert seen.silent == {} and seen.faults == {}
        return {v: (arm.requests, arm.errors, arm.latencies.n) for v, arm in seen.arms.items()}

    model_server.answer("13", 20, failed=20, route=b"match")
    assert look("gateway") == {"12": (0, 0, 0), "13": (0, 0, 0)}
    model_server.answer("12", 90, failed=2, route=b"weights")
    model_server.answer("12", 7, failed=7, route=b"unassigned")
    model_server.answer("13", 10, failed=1, route=b"weights")
    assert look("gateway") == {"12": (90, 2, 90), "13": (10, 1, 10)}
    assert look("kserve") == {"12": (97, 9, 97), "13": (30, 21, 30)}
    # one target, whatever its counters say of a request
    assert [len(sources["kserve"].scraped(VERSIONS)[version]) for version in VERSIONS] == [1, 1]

    model_server.labelled = False
    model_server.restart()
    model_server.answer("13", 5, failed=5, route=b"match")
    model_server.answer("12", 45, route=b"weights")
    assert look("gateway") == {"12": (135, 2, 135), "13": (15, 6, 15)}


def envoy_config(admin: int, listener: int, clusters: dict[str, int]) -> dict[str, Any]:
    """Cluster -> port of its server; a request goes to the cluster that its path names."""
    types = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"path": f"/{name}"},
                            "route": {"cluster": name, "prefix_rewrite": "/metrics"},
                        }
                        for name in clusters
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}},
        ],
    }

    def address(port: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}

    def cluster(name: str, port: int) -> dict[str, Any]:
        endpoints = [{"lb_endpoints": [{"endpoint": address(port)}]}]
        return {
            "name": name,
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        }

    filters = [{"name": "http", "typed_config": manager}]
    return {
        "admin": address(admin),
        "stats_flush_interval": "0.05s",
        "static_resources": {
            "listeners": [{**address(listener), "filter_chains": [{"filters": filters}]}],
            "clusters": [cluster(name, port) for name, port in clusters.items()],
        },
    }


def ask(listener: int, version: str) -> None:
    """One request that is answered in full: Envoy has no duration of one whose caller went away."""
    url = f"http://127.0.0.1:{listener}/flights@{version}"
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url, timeout=10) as answer:
        answer.read()


def test_envoys_own_counters(tmp_path: Path, model_server: ModelServer) -> None:
    """Verify the names and labels that a real Envoy gives its counters, and that a version of which every server is
    down is counted as failing."""
    admin, listener, nobody = (envoy_process.free_port() for _ in range(3))
    config = envoy_config(admin, listener, {"flights@12": model_server.port, "flights@13": nobody})
    (tmp_path / "envoy.json").write_text(json.dumps(config))
    command = [
        str(envoy_process.binary()),
        "-c",
        "envoy.json",
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
        "-l",
        "error",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        instance = f"127.0.0.1:{admin}"
        with prometheus_server.running(tmp_path, [instance], path="/stats/prometheus") as server:
            server.scraped(instance, time.time())
            since = now()
            for version, count in (("12", 20), ("13", 5)):
                for _ in range(count):
                    ask(listener, version)
            of = PrometheusSource(
                Prometheus(server.url),
                "flights",
                since,
                queries=ENVOY,
                scrape_interval_s=INTERVAL_S,
                late_after=20.0,
            )
            # Envoy shows a counter from its first request on, and that one counts too; a histogram it shows later
            for _ in range(40):
                server.scraped(instance, time.time())
                seen = of.evidence(VERSIONS, now())
                latencies = seen.arms["12"].latencies
                if latencies is not None and latencies.n == 20:
                    break
    finally:
        process.terminate()
        process.wait(10)
    assert seen.silent == {} and seen.faults == {}
    assert {v: (arm.requests, arm.errors) for v, arm in seen.arms.items()} == {"12": (20, 0), "13": (5, 5)}
    assert latencies is not None and latencies.n == 20
    assert seen.arms["13"].latencies is None
