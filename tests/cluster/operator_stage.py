"""A stage for the operator on a real API server: what else a cluster has, as far as an operator can see it.

There is no gateway, no KServe and no model server here. `Controllers` stands in for the first two: it writes the
status conditions that they write, and nothing else. `Traffic` stands in for users and model servers: a page with the
counters of `serving.runtime.metrics`, whose requests are split as the live HTTPRoute says. API server, CRDs,
Prometheus and the operator's process are the real ones.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from serving.release.cluster import naming
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.inference_service import RENDERED
from serving.release.cluster.kinds import ENVOY_EXTENSION_POLICY, HTTP_ROUTE, INFERENCE_SERVICE, RELEASE, Kind
from serving.runtime.counts import BUCKETS
from tests.cluster.api_server import ApiServer, established, rights_in_force
from tests.cluster.tools.build import module_dir, tool
from tests.support.local_http import Listener
from windlass.errors import WindlassError

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "windlass"
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")

Object = dict[str, Any]

#: Until what must happen has happened, in seconds; the machine may have other work.
WITHIN_S = 180.0

#: How the stage's versions are served, as far as its doubles care.
OPTIONS = """storage: s3://models/{model}/{version}
payload: {url: "http://windlass-collector:8088/"}
"""


def install(server: ApiServer) -> None:
    """Install the definitions: ours, KServe's InferenceService, the Gateway API's HTTPRoute, Envoy Gateway's policy."""
    kserve = module_dir("github.com/kserve/kserve") / "config" / "crd" / "full"
    gateway = module_dir("sigs.k8s.io/gateway-api", "envoygateway") / "config" / "crd" / "standard"
    envoy = module_dir("github.com/envoyproxy/gateway", "envoygateway")
    envoy = envoy / "charts" / "gateway-helm" / "charts" / "crds" / "crds" / "generated"
    files = [
        *sorted((ROOT / "manifests" / "crds").glob("*.yaml")),
        kserve / "serving.kserve.io_inferenceservices.yaml",
        *gateway.glob("*_httproutes.yaml"),
        envoy / "gateway.envoyproxy.io_envoyextensionpolicies.yaml",
    ]
    server.kubectl("apply", "--server-side", *itertools.chain.from_iterable(("-f", file) for file in files))
    established(server)


def namespace(server: ApiServer, name: str) -> Path:
    """Make a namespace with the operator's account and the chart's Role for it; a kubeconfig of that account."""
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    rights = subprocess.run(
        [tool("helm"), "template", "windlass", CHART, "-n", name, "-s", "templates/operator/rbac.yaml"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    server.kubectl("apply", "-f", "-", given=rights)
    rights_in_force(server, name)
    return server.kubeconfig_for_service_account(name, "windlass-operator")


def eventually(ask: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """What `ask` gives once that is true.

    Raises:
        AssertionError: it never was.
    """
    until = time.monotonic() + within_s
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < until, f"{what}: not within {within_s:g} s; it is {found!r}"
        time.sleep(0.1)


class Controllers:
    """Writes the words of a Gateway's controller and of KServe; a context manager.

    Attributes:
        weights: model -> version -> weight, of the live routes' rules for everybody.
        routes, policies: the live ones, by the route's name.
        broken: versions of which KServe says that they do not start.
    """

    def __init__(self, server: ApiServer, place: str) -> None:
        self._api = KubernetesApi.connect(server.kubeconfig, timeout_s=5.0)
        self.place = place
        self._stop = threading.Event()
        self.weights: dict[str, dict[str, int]] = {}
        self.routes: dict[str, Object] = {}
        self.policies: dict[str, Object] = {}
        self.broken: set[str] = set()
        self.accepts = True
        self._threads = [
            threading.Thread(target=self._follow, args=each, daemon=True)
            for each in (
                (HTTP_ROUTE, self._route),
                (ENVOY_EXTENSION_POLICY, self._policy),
                (INFERENCE_SERVICE, self._service),
            )
        ]

    def __enter__(self) -> Controllers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # a thread does nothing more, and ends with its watch, which nobody waits for
        self.weights.clear()

    def _follow(self, kind: Kind, act: Callable[[Object], None]) -> None:
        while not self._stop.is_set():
            try:
                listing = self._api.all(kind, self.place)
                for item in listing.items:
                    if self._stop.is_set():
                        return
                    act(item)
                for change in self._api.watch(kind, self.place, listing.version, timeout_s=5.0):
                    if self._stop.is_set():
                        return
                    if change.kind in ("ADDED", "MODIFIED"):
                        act(change.object)
            except WindlassError:
                time.sleep(0.3)

    def again(self, name: str) -> None:
        """Look at an InferenceService once more."""
        found = self._api.get(INFERENCE_SERVICE, self.place, name)
        if found is not None:
            self._service(found)

    def _route(self, route: Object) -> None:
        metadata, spec = route["metadata"], route["spec"]
        self.routes[metadata["name"]] = route
        model = metadata.get("labels", {}).get(naming.MODEL_LABEL)
        rules = spec.get("rules", ())
        if model and rules:
            shares: Counter[str] = Counter()
            for ref in rules[0].get("backendRefs", ()):
                shares[naming.version_of(model, ref["name"]) or ref["name"]] += ref.get("weight", 1)
            self.weights[model] = dict(shares)
        generation = metadata["generation"]
        said = route.get("status", {}).get("parents") or ()
        if said and said[0]["conditions"][0]["observedGeneration"] == generation:
            return
        conditions = self._words(generation, "Accepted", "ResolvedRefs")
        parent = {
            "parentRef": spec["parentRefs"][0],
            "controllerName": "example.test/double",
            "conditions": conditions,
        }
        self._say(HTTP_ROUTE, metadata["name"], {"parents": [parent]})

    def _policy(self, policy: Object) -> None:
        metadata = policy["metadata"]
        self.policies[metadata["name"]] = policy
        said = policy.get("status", {}).get("ancestors") or ()
        if said and said[0]["conditions"][0]["observedGeneration"] == metadata["generation"]:
            return
        ancestor = {
            "ancestorRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "windlass"},
            "controllerName": "example.test/double",
            "conditions": self._words(metadata["generation"], "Accepted"),
        }
        self._say(ENVOY_EXTENSION_POLICY, metadata["name"], {"ancestors": [ancestor]})

    def _words(self, generation: int, *kinds: str) -> list[Object]:
        return [
            {
                "type": kind,
                "status": "True" if self.accepts else "False",
                "reason": kind if self.accepts else "Unsupported",
                "message": "",
                "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind in kinds
        ]

    def _service(self, service: Object) -> None:
        metadata = service["metadata"]
        if "deletionTimestamp" in metadata or metadata["name"] in self.broken:
            return
        if service.get("status", {}).get("conditions"):
            return
        name = f"{metadata['name']}-predictor"
        labels = {"app": f"isvc.{name}"}
        rendered = service["spec"]["predictor"].get("annotations", {}).get(RENDERED, "")
        template = {
            "metadata": {"labels": labels, "annotations": {RENDERED: rendered}},
            "spec": {"containers": [{"name": "kserve-container", "image": "windlass/serving:0.1.0"}]},
        }
        made = self._api.apply(
            DEPLOYMENT,
            self.place,
            name,
            {"spec": {"selector": {"matchLabels": labels}, "template": template}},
        )
        said = {"observedGeneration": made["metadata"]["generation"]}
        said |= dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), 1)
        self._say(DEPLOYMENT, name, said)
        self._say(
            INFERENCE_SERVICE,
            metadata["name"],
            {
                "conditions": [{"type": "Ready", "status": "True"}],
                "modelStatus": {"transitionStatus": "UpToDate"},
            },
        )

    def _say(self, kind: Kind, name: str, status: Object) -> None:
        self._api.apply(kind, self.place, name, {"status": status}, subresource="status")


@dataclass
class Answers:
    """What one version has answered."""

    ok: int = 0
    failed: int = 0


@dataclass
class Traffic:
    """Users of some models, and the metrics page of the servers that answer them.

    Attributes:
        failing: model, version -> every n-th request of it fails.
        per_turn: requests for each model and turn.
    """

    controllers: list[Controllers] = field(default_factory=list)
    failing: dict[tuple[str, str], int] = field(default_factory=dict)
    per_turn: int = 20
    _answers: dict[tuple[str, str, str, bool], Answers] = field(default_factory=dict)
    _owed: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self) -> None:
        """One turn: requests split by the routes' weights, to the request."""
        with self._lock:
            for controllers in list(self.controllers):
                for model, weights in list(controllers.weights.items()):
                    for version, weight in weights.items():
                        self._answer((controllers.place, model, version), weight)

    def count(
        self, place: str, model: str, version: str, *, assigned: bool = True, failed: bool = False
    ) -> None:
        """Count one more answer of a server."""
        with self._lock:
            answers = self._answers.setdefault((place, model, version, assigned), Answers())
            answers.ok += not failed
            answers.failed += failed

    def _answer(self, key: tuple[str, str, str], weight: int) -> None:
        owed = self._owed.get(key, 0.0) + self.per_turn * weight / 100
        answers, every = self._answers.setdefault((*key, True), Answers()), self.failing.get(key[1:])
        for _ in range(int(owed)):
            if every and (answers.ok + answers.failed) % every == 0:
                answers.failed += 1
            else:
                answers.ok += 1
        self._owed[key] = owed - int(owed)

    def page(self) -> str:
        lines = []
        with self._lock:
            for (place, model, version, assigned), answers in self._answers.items():
                labels = f'model="{model}",version="{version}",namespace="{place}",assigned="{str(assigned).lower()}"'
                total = answers.ok + answers.failed
                lines.append(f'windlass_requests_total{{{labels},protocol="v1",code="200"}} {answers.ok}')
                if answers.failed:
                    lines.append(
                        f'windlass_requests_total{{{labels},protocol="v1",code="500"}} {answers.failed}'
                    )
                for bucket in BUCKETS:
                    fast = total if bucket >= 0.01 else 0
                    lines.append(f'windlass_request_seconds_bucket{{{labels},le="{bucket}"}} {fast}')
                lines.append(f'windlass_request_seconds_bucket{{{labels},le="+Inf"}} {total}')
        return "\n".join(lines) + "\n"

    @contextlib.contextmanager
    def slowed(self, per_turn: int = 0) -> Iterator[None]:
        """Send so few until the block ends that no step ends meanwhile, however long that takes: none by default."""
        before, self.per_turn = self.per_turn, per_turn
        try:
            yield
        finally:
            self.per_turn = before

    @contextlib.contextmanager
    def served(self, every_s: float = 0.05) -> Iterator[str]:
        """Send until the block ends; the address of the page, as host:port."""
        page, stop = self.page, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        def send() -> None:
            while not stop.wait(every_s):
                self.send()

        # a Prometheus that gives up a scrape is not told of in what another test says
        server = Listener(("127.0.0.1", 0), Handler)
        threads = [threading.Thread(target=work, daemon=True) for work in (server.serve_forever, send)]
        for thread in threads:
            thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            stop.set()
            server.shutdown()
            server.server_close()


class Operator:
    """A process `python -m windlass.operator`."""

    def __init__(self, kubeconfig: Path, place: str, log: Path, **env: str) -> None:
        self.log = log
        options = log.with_suffix(".options.yaml")
        options.write_text(OPTIONS)
        self._env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "WINDLASS_NAMESPACES": place,
            "POD_NAMESPACE": place,
            "WINDLASS_SERVING_OPTIONS": str(options),
            "WINDLASS_PORT": "0",
            "WINDLASS_LOOK_EVERY": "500ms",
            **env,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Operator:
        with self.log.open("ab") as log:
            self._began = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "windlass.operator"], cwd=ROOT, env=self._env, stdout=log, stderr=log
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        return self.log.read_bytes()[self._began :].decode()

    def address(self) -> str:
        def port() -> re.Match[str] | None:
            assert self._process is not None
            assert self._process.poll() is None, self.said()
            return re.search(r"port (\d+)", self.said())

        return f"http://127.0.0.1:{eventually(port, 'the operator says its port')[1]}"

    def metrics(self) -> str:
        """Its metrics page."""
        with urllib.request.urlopen(f"{self.address()}/metrics", timeout=60) as answer:  # noqa: S310 - a loopback address
            return str(answer.read().decode())

    def wait(self, timeout: float = WITHIN_S) -> int:
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        """As a crash ends it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """As the kubelet ends it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()


def release(name: str, model: str, candidate: str, champion: str | None = None, **spec: Any) -> Object:
    """A canary of two steps that is judged by errors and latency."""
    found: Object = {
        "model": model,
        "candidate": candidate,
        "backend": "gateway",
        "strategy": {
            "type": "canary",
            "steps": [{"weight": 20, "minSamples": 60}, {"weight": 50, "minSamples": 120}],
        },
        "checks": [
            {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 5,
             "alpha": 0.01},
            {"name": "p99", "kind": "guardrail", "metric": "latencyP99", "source": "prometheus", "bound": "50ms",
             "alpha": 0.01},
        ],
        **spec,
    }  # fmt: skip
    if champion is not None:
        found["champion"] = champion
    return {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": name},
        "spec": found,
    }


def apply(server: ApiServer, place: str, document: Mapping[str, Any]) -> None:
    server.kubectl("apply", "-n", place, "-f", "-", given=json.dumps(document))


def get(server: ApiServer, place: str, name: str, kind: Kind = RELEASE) -> Object | None:
    try:
        found: Object = server.request("GET", kind.path(place, name))
        return found
    except WindlassError as error:
        if "404" in str(error):
            return None
        raise


def phase(server: ApiServer, place: str, name: str) -> str:
    found = get(server, place, name)
    return "" if found is None else str(found.get("status", {}).get("phase", ""))
