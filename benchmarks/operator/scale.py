"""One operator, many Releases: what it costs while they move, and what an API server that is away does to them."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.operator import processes
from monitoring.rules.watch import watching
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import RELEASE
from serving.release.cluster.store import ClusterStore
from tests.cluster import operator_stage as stage
from tests.cluster.api_server import ApiServer
from tests.cluster.operator_stage import Controllers, Operator, Traffic, eventually
from windlass.operator.metrics import BUCKETS

PLACE = "many"
SCRAPE_MS = 5000
#: A canary goes on about once a minute: with a hundred of them more than one route changes each second.
STEPS = [{"weight": weight, "minSamples": 50, "minDuration": "45s"} for weight in range(2, 98, 3)]

Say = Callable[[str], None]
#: Records by release.
Journals = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Scene:
    """What is set up.

    Attributes:
        releases: objects; those beyond `moving` are over, one half promoted and one half rolled back.
        first: whether our processes come before all others of the machine.
    """

    folder: Path
    releases: int
    moving: int
    say: Say
    first: bool = False


@dataclass(frozen=True)
class Measured:
    """What was measured of the operator's process.

    Attributes:
        p99_s: of a turn, from when it was due until it was over; the upper bound of the histogram's bucket.
        load: runnable processes of the whole machine, the mean of five minutes: beside others a turn waits for them.
        others: by process, the cores that it used, and how many of its threads on average waited for one.
        requests_per_release_minute: to the API server, of a live Release, watches and lease left out.
        changes: of routes.
        lost: decisions that an outage lost or did twice; None without one.
    """

    seconds: float
    turns: int
    p50_s: float
    p99_s: float
    late_p99_s: float
    peak_mb: float
    resident_mb: float
    cores: float
    load: float
    requests: dict[str, int]
    requests_per_release_minute: float
    decisions: int
    changes: int
    start_s: float
    others: dict[str, tuple[float, float]]
    lost: int | None = None
    back_s: float | None = None

    def rows(self) -> Iterator[tuple[str, float, str]]:
        yield "turns", self.turns, ""
        yield "reconcile p50", self.p50_s, "s"
        yield "reconcile p99", self.p99_s, "s"
        yield "wait for a thread p99", self.late_p99_s, "s"
        yield "peak memory", self.peak_mb, "MB"
        yield "memory at the end", self.resident_mb, "MB"
        yield "cores", self.cores, ""
        yield "CPU of a turn", 1000 * self.cores * self.seconds / max(self.turns, 1), "ms"
        yield "load average of the machine", self.load, ""
        for verb, number in sorted(self.requests.items()):
            yield f"API requests, {verb}", number, ""
        yield "API requests of a live Release and minute", self.requests_per_release_minute, ""
        yield "decisions written", self.decisions, ""
        yield "of them changes of a route", self.changes, ""
        for name, (cores, waiting) in sorted(self.others.items()):
            yield f"cores, {name}", cores, ""
            yield f"threads that wait for a core, {name}", waiting, ""
        yield "from the start until all moved", self.start_s, "s"
        if self.back_s is not None:
            yield "from the API server's return until all were looked at", self.back_s, "s"


def measure(scene: Scene, seconds: int, outage_s: int) -> Measured:
    """Set up, let it run, and measure."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ApiServer(scene.folder / "api"))
        stage.install(server)
        kubeconfig = stage.namespace(server, PLACE)
        controllers = stack.enter_context(Controllers(server, PLACE))
        traffic = Traffic([controllers])
        page = stack.enter_context(traffic.served(every_s=0.5))
        prometheus = stack.enter_context(
            watching(
                scene.folder / "prometheus", {"windlass-serving": [page]}, groups=(), interval_ms=SCRAPE_MS
            )
        ).prometheus
        _come_first(scene)
        _create(server, scene)
        scene.say(f"{scene.releases} Releases are there")
        operator = Operator(
            kubeconfig,
            PLACE,
            scene.folder / "operator.log",
            WINDLASS_PROMETHEUS_URL=prometheus,
            WINDLASS_SCRAPE_INTERVAL=f"{SCRAPE_MS}ms",
            WINDLASS_LOOK_EVERY="5s",
        ).start()
        stack.callback(operator.kill)
        _come_first(scene)
        began = time.monotonic()
        address = operator.address()
        eventually(
            lambda: _phases(address).get("Progressing", 0) >= scene.moving,
            "all begin",
            60.0 + 6 * scene.moving,
        )
        start_s = time.monotonic() - began
        scene.say(f"all {scene.moving} move, {start_s:.0f} s after the start; measuring for {seconds} s")
        time.sleep(15.0)  # servers were asked for, and finished ones looked at: that is not how it goes on
        pids = processes.children()
        uses = {name: processes.use(pid) for name, pid in pids.items()}
        before, at = _scrape(address), time.monotonic()
        time.sleep(seconds)
        after, elapsed = _scrape(address), time.monotonic() - at
        others = {
            name: ((now.cpu_s - was.cpu_s) / elapsed, (now.waited_s - was.waited_s) / elapsed)
            for name, was in uses.items()
            for now in [processes.use(pids[name])]
        }
        found = _found(before, after, scene, elapsed, others, operator.pid, start_s)
        if outage_s:
            found = _outage(found, server, scene, address, outage_s)
        return found


def _come_first(scene: Scene) -> None:
    if scene.first:
        processes.come_first(processes.children())


def _create(server: ApiServer, scene: Scene) -> None:
    api = KubernetesApi.connect(server.kubeconfig, timeout_s=30.0)

    def one(number: int) -> None:
        model = f"model-{number:04d}"
        document = stage.release(f"{model}-2", model, "2", "1")
        document["spec"]["strategy"]["steps"] = STEPS
        made = api.create(RELEASE, PLACE, document)
        if number < scene.moving:
            return
        phase = ("Promoted", "RolledBack")[number % 2]
        status = {"phase": phase, "observedGeneration": made["metadata"]["generation"], "step": len(STEPS)}
        path = RELEASE.path(PLACE, document["metadata"]["name"], "status")
        server.request("PUT", path, {**made, "status": status})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(scene.releases)))


def _outage(found: Measured, server: ApiServer, scene: Scene, address: str, outage_s: int) -> Measured:
    """Take the API server away and bring it back: every decision is there once, and every release goes on."""
    store = ClusterStore(KubernetesApi.connect(server.kubeconfig, timeout_s=30.0), PLACE, None)
    earlier = _journals(store)
    scene.say(f"the API server is away for {outage_s} s")
    server.stop()
    time.sleep(outage_s)
    server.start()
    _come_first(scene)
    back = time.monotonic()
    counted = _journals(ClusterStore(KubernetesApi.connect(server.kubeconfig, timeout_s=30.0), PLACE, None))

    def gone_on() -> bool:
        now = _journals(ClusterStore(KubernetesApi.connect(server.kubeconfig, timeout_s=30.0), PLACE, None))
        return all(len(records) > len(counted[name]) for name, records in now.items())

    eventually(gone_on, "all releases go on", 300.0)
    back_s = time.monotonic() - back
    later = _journals(ClusterStore(KubernetesApi.connect(server.kubeconfig, timeout_s=30.0), PLACE, None))
    return Measured(**{**vars(found), "lost": lost(earlier, later), "back_s": back_s})


def lost(earlier: Journals, later: Journals) -> int:
    """How many releases lost a decision, or took one or carried it out twice, between two readings of the journals."""
    wrong = 0
    for name, before in earlier.items():
        records = later.get(name, [])
        decisions = [record for record in records if record["kind"] == "decision"]
        steps = [record["state"]["step"] for record in decisions if record["acts"]]
        wrong += (
            records[: len(before)] != before
            or [record["seq"] for record in decisions] != list(range(1, len(decisions) + 1))
            or steps != list(range(len(steps)))
        )
    return wrong


def _journals(store: ClusterStore) -> Journals:
    return {
        entry.name: [dict(record) for record in store.records(entry)]
        for model in store.models()
        for entry in store.entries(model)
    }


def _found(
    before: dict[str, float],
    after: dict[str, float],
    scene: Scene,
    elapsed: float,
    others: dict[str, tuple[float, float]],
    pid: int,
    start_s: float,
) -> Measured:
    risen = {name: value - before.get(name, 0.0) for name, value in after.items()}
    requests: dict[str, int] = {}
    for name, value in risen.items():
        if name.startswith("windlass_operator_api_requests_total{") and value:
            verb = name.split('verb="')[1].split('"')[0]
            requests[verb] = requests.get(verb, 0) + int(value)
    decisions = {
        name: value for name, value in risen.items() if name.startswith("windlass_release_decisions_total{")
    }
    reconcile, late = "windlass_operator_reconcile_seconds", "windlass_operator_late_seconds"
    peak, resident = _memory_mb(pid)
    return Measured(
        seconds=elapsed,
        turns=int(risen[f'{reconcile}_count{{kind="release"}}']),
        p50_s=_quantile(risen, reconcile, 0.5),
        p99_s=_quantile(risen, reconcile, 0.99),
        late_p99_s=_quantile(risen, late, 0.99),
        peak_mb=peak,
        resident_mb=resident,
        cores=others["operator"][0],
        load=os.getloadavg()[1],
        requests=requests,
        requests_per_release_minute=sum(requests.values()) / scene.moving / elapsed * 60,
        decisions=int(sum(decisions.values())),
        changes=int(sum(value for name, value in decisions.items() if 'action="advance"' in name)),
        start_s=start_s,
        others=others,
    )


def _quantile(risen: dict[str, float], name: str, q: float) -> float:
    """The least bound of a bucket with at least that share below it."""
    total = risen[f'{name}_count{{kind="release"}}']
    for bound in BUCKETS:
        if risen[f'{name}_bucket{{kind="release",le="{bound}"}}'] >= q * total:
            return bound
    return float("inf")


def _phases(address: str) -> dict[str, float]:
    return {
        name.split('"')[1]: value
        for name, value in _scrape(address).items()
        if name.startswith("windlass_operator_releases{")
    }


def _scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:  # noqa: S310
        lines = answer.read().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def _memory_mb(pid: int) -> tuple[float, float]:
    """The most that was resident, and what is; in 10^6 bytes."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    peak, now = (int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmHWM", "VmRSS"))
    return peak, now
