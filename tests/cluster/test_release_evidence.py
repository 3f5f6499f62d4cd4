"""Releases that rest on predictions and feedback, from `kubectl apply` of our samples to their end.

API server, operator, Prometheus and collector are real processes; what a proxy, model servers and users do is
`audience.py`'s. The samples' days are seconds here, and their thousands of requests hundreds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import shop_features
import yaml

from components import release_request
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import ENVOY_EXTENSION_POLICY, HTTP_ROUTE
from serving.release.journal.replay import replay
from tests.cluster import operator_stage as stage
from tests.cluster.api_server import ApiServer
from tests.cluster.audience import PREVIEW, Audience
from tests.cluster.operator_stage import ROOT, Traffic, eventually
from tests.cluster.operator_team import Team
from tests.cluster.tools.build import BUILD_S
from tests.support import ports
from windlass.local.retraining.cluster_releases import ClusterReleases, Objects
from workloads.flights.workload import WORKLOAD

pytestmark = [pytest.mark.timeout(2 * BUILD_S), pytest.mark.slow]

#: Until a release ends; the machine may have other work.
END_S = 300.0


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    stage.install(api_server)
    return api_server


class Collector:
    """A process `python -m monitoring.collector`, whose store outlives it."""

    def __init__(self, home: Path, project: Path = ROOT) -> None:
        self._home = home
        self._project = project
        # nobody else gets the port while the process is away
        self._held = ports.hold()
        self._port: int = self._held.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Collector:
        command = [sys.executable, "-m", "monitoring.collector", "--no-follow", "--port", str(self._port),
                   "--home", str(self._home), "--consolidate-s", "1"]  # fmt: skip
        self._home.mkdir(parents=True, exist_ok=True)
        with (self._home / "collector.log").open("ab") as log:
            env = os.environ | {"WINDLASS_PROJECT": str(self._project)}
            self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        eventually(self._healthy, "the collector answers")
        return self

    def _healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._home / "collector.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1.0) as answer:  # noqa: S310 - a loopback address
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """As a crash ends it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it, and let its port go."""
        self.kill()
        self._held.close()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    made = Collector(tmp_path / "collector")
    with contextlib.closing(made):
        yield made.start()


_numbers = itertools.count(1)


@pytest.fixture
def team(server: ApiServer, tmp_path: Path, traffic: Traffic, prometheus: str) -> Iterator[Team]:
    made = Team(server, f"evidence-{next(_numbers)}", tmp_path, traffic, prometheus)
    with contextlib.closing(made), made.controllers:
        yield made


@pytest.fixture(scope="module")
def shared(
    server: ApiServer, tmp_path_factory: pytest.TempPathFactory, traffic: Traffic, prometheus: str
) -> Iterator[Team]:
    """A namespace whose operator knows a collector's address, and where nobody asks anything."""
    made = Team(server, "evidence-samples", tmp_path_factory.mktemp("samples"), traffic, prometheus)
    with contextlib.closing(made), made.controllers:
        made.operator(WINDLASS_COLLECTOR_URL="http://127.0.0.1:9")
        yield made


@pytest.fixture
def operator(team: Team, collector: Collector) -> Callable[[str], stage.Operator]:
    """Starts an operator that knows the collector."""
    return lambda name: team.operator(name, WINDLASS_COLLECTOR_URL=collector.url)


def sample(name: str, **strategy: Any) -> dict[str, Any]:
    """A sample of ours with other durations and counts in its strategy."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "manifests" / "samples" / f"{name}.yaml").read_text())
    assert not set(strategy) - {
        *document["spec"]["strategy"], "update", "outcomeDelay", "minDuration", "keepWarm"
    }, "a sample is hurried and not changed"  # fmt: skip
    document["spec"]["strategy"] |= strategy
    return document


@pytest.mark.parametrize(
    "path", sorted((ROOT / "manifests" / "samples").glob("release-*.yaml")), ids=lambda p: p.stem
)
def test_no_sample_is_refused(shared: Team, path: Path) -> None:
    """Verify that the operator takes each of our samples on, whatever its backend; each of a model of its own."""
    document = yaml.safe_load(path.read_text())
    document["spec"] = {"champion": "12", **document["spec"], "model": path.stem}
    name = document["metadata"]["name"]
    shared.apply(document)
    said = eventually(lambda: shared.status(name), "the operator says something")
    # where there are smoke requests, nobody answers them here
    assert said["phase"] in ("Pending", "Progressing", "RolledBack"), said
    assert shared.events(name)[:1] in ([], ["Started"])


def evidence(team: Team, name: str) -> list[dict[str, Any]]:
    """What the decisions of a release rested on, as the journal has it."""
    return [r["evidence"] for r in team.journal(name) if r["kind"] == "decision" and r["evidence"]]


def decided_again(team: Team, name: str) -> None:
    """Verify that the journal's evidence gives the journal's decisions."""
    found = replay(team.journal(name))
    assert found.same and found.decisions, found.differences


def shadowed(team: Team, collector: Collector) -> Audience:
    """Users of a model whose versions say nearly the same."""
    return Audience(
        team.controllers,
        team.traffic,
        collector.url,
        "flights",
        earns={"12": 0.3},
        scores={"12": 0.32, "13": 0.31},
        per_turn=100,
    )


def test_a_shadow_is_promoted_by_pairs(team: Team, collector: Collector, operator: Any) -> None:
    """Verify that copies are made, that both versions' answers are compared, and that the copies end with it."""
    operator("one")
    with shadowed(team, collector):
        team.apply(sample("release-shadow-gateway", minSamples=500, minDuration="2s"))
        name = "flights-13-shadowed"
        going = team.until(name, "Progressing", step=1)
        assert going["weights"] == {"12": 100} and going["copies"] == {"to": "13", "percent": 20}
        route = stage.get(team.server, team.name, "windlass-flights", HTTP_ROUTE)
        assert route is not None and "requestMirror" in str(route["spec"])
        done = team.until(name, "Promoted", within_s=END_S)
        assert done["weights"] == {"13": 100} and team.weights("flights") == {"13": 100}
        assert {check["name"]: check["verdict"] for check in done["checks"]} == {
            "errors": "INCONCLUSIVE", "slow": "PASS", "same": "PASS", "near": "PASS", "accuracy": "PASS",
            "sampleRatio": "PASS",
        }  # fmt: skip
    route = stage.get(team.server, team.name, "windlass-flights", HTTP_ROUTE)
    assert route is not None and "requestMirror" not in str(route["spec"])
    last = evidence(team, name)[-1]
    arms = last["arms"]
    assert last["pairs"]["distances"] == {"10": last["pairs"]["n"]}
    # a fifth of the requests is copied, and each copy answered
    assert arms["13"]["requests"] >= 500
    assert arms["13"]["requests"] / arms["12"]["requests"] == pytest.approx(0.2, abs=0.03)
    decided_again(team, name)


def test_the_shipped_workloads_own_plan_is_released_by_a_cluster(
    team: Team, collector: Collector, operator: Any
) -> None:
    """Verify that a retrained version of somebody who has written nothing for a cluster becomes the champion there, and
    by what its plan decides with."""
    operator("one")
    objects = Objects(KubernetesApi.connect(team.server.kubeconfig), team.name)
    with shadowed(team, collector):
        # these servers log no vectors that could be recomputed
        checks = [check for check in WORKLOAD.release["checks"] if check["metric"] != "featureSkew"]
        plan = {**WORKLOAD.release, "checks": checks}
        wanted = release_request.document(dataclasses.replace(WORKLOAD, release=plan), "13", "12")
        done = ClusterReleases(objects, "flights").hand_over(wanted, "retrain-flights-0123456789ab")
        assert isinstance(done, dict), done
        ended = team.until(done["release"], "Promoted", within_s=END_S)
    assert team.weights("flights") == {"13": 100}
    verdicts = {check["name"]: check["verdict"] for check in ended["checks"]}
    assert (verdicts["latency"], verdicts["brier"]) == ("PASS", "PASS")
    assert ended["decision"]["reason"].startswith("brier: ")
    last = evidence(team, done["release"])[-1]
    assert last["pairs"]["n"] >= 600
    decided_again(team, done["release"])


def test_an_experiment_ends_with_its_winner(team: Team, collector: Collector, operator: Any) -> None:
    """Verify that units are assigned by the policy, counted once, and that the better of two candidates wins; and that
    the losers' servers and the policy go."""
    operator("one")
    earns: dict[Any, float] = {"12": 0.3, "13": 0.3, "14": 0.9}
    with Audience(
        team.controllers, team.traffic, collector.url, "flights", earns=earns, more=True
    ) as audience:
        team.apply(
            sample(
                "release-experiment-gateway",
                minDuration="3s", maxDuration="10m", outcomeDelay="2s", period="2s",
            )
        )  # fmt: skip
        name = "flights-bookings"
        going = team.until(name, "Progressing", step=1)
        assert going["weights"] == {"12": 40, "13": 30, "14": 30}
        script = stage.get(team.server, team.name, "windlass-flights", ENVOY_EXTENSION_POLICY)
        assert script is not None and "bookings-2026" in str(script["spec"])
        done = team.until(name, "Promoted", within_s=END_S)
    assert done["weights"] == {"14": 100} and team.weights("flights") == {"14": 100}
    verdicts = {(check["name"], check.get("candidate")): check["verdict"] for check in done["checks"]}
    assert verdicts["bookings", "14"] == "PASS" and verdicts["bookings", "13"] != "PASS"
    assert stage.get(team.server, team.name, "windlass-flights", ENVOY_EXTENSION_POLICY) is None
    assert eventually(lambda: team.versions("flights") == {"12", "14"}, "the loser's servers go")
    arms = evidence(team, name)[-1]["arms"]
    units = {version: arm["units"] for version, arm in arms.items()}
    # two requests a unit
    assert 100 < sum(units.values()) <= audience.asked / 2
    assert units["12"] / sum(units.values()) == pytest.approx(0.4, abs=0.06)
    decided_again(team, name)


def test_a_bandit_follows_the_rewards(team: Team, collector: Collector, operator: Any) -> None:
    """Verify that weights move to what earns more, on the route too, and that the decision metric ends it."""
    operator("one")
    earns: dict[Any, float] = {"12": 0.3, "13": 0.6, "14": 0.3}
    with Audience(team.controllers, team.traffic, collector.url, "flights", earns=earns):
        team.apply(
            sample(
                "release-bandit-thompson",
                update="1s",
                outcomeDelay="1s",
                minDuration="40s",
                maxDuration="10m",
            )
        )
        name = "flights-bandit"
        team.until(name, "Progressing", step=1)
        begun = next(record for record in team.journal(name) if record["kind"] == "decision")
        assert sorted(begun["weights"].values()) == [33, 33, 34]
        eventually(lambda: 60 < team.weights("flights").get("13", 0) < 100, "the route follows", END_S)
        done = team.until(name, "Promoted", within_s=END_S)
    assert done["weights"] == {"13": 100} and done["decision"]["reason"].startswith("bookings: ")
    acts = team.acts(name)
    # a version that is shown to earn less may be taken out on the way
    assert acts[0] == "start" and acts[-1] == "promote" and "update" in acts
    assert set(acts[1:-1]) <= {"update", "drop"}
    assert "WeightsUpdated" in team.events(name)
    decided_again(team, name)


def test_a_contextual_bandit_has_a_best_version_for_each_context(
    team: Team, collector: Collector, operator: Any
) -> None:
    """Verify that each device gets the version that earns more there, and that the champion has all once the time is
    over: no version is the best for everybody."""
    operator("one")
    earns: dict[Any, float] = {
        ("13", "mobile"): 0.9, ("12", "mobile"): 0.1, ("13", "desktop"): 0.1, ("12", "desktop"): 0.9,
    }  # fmt: skip
    # a quarter of it is enough for the devices to part on a machine that has other work
    document = sample("release-bandit-epsilon-greedy", update="1s", maxDuration="60s")
    document["spec"]["champion"] = "12"
    name = "flights-bandit-by-device"

    def by_device() -> dict[str, int]:
        """Share of version 13, by the value of the header."""
        route = stage.get(team.server, team.name, "windlass-flights", HTTP_ROUTE)
        rules = [] if route is None else route["spec"]["rules"]
        return {
            rule["matches"][0]["headers"][0]["value"]: sum(
                ref["weight"] for ref in rule["backendRefs"] if ref["name"] == "flights-13-predictor"
            )
            for rule in rules
            if rule["matches"][0].get("headers")
        }

    with Audience(team.controllers, team.traffic, collector.url, "flights", earns=earns, more=True):
        team.apply(document)

        def parted() -> bool:
            found = by_device()
            return found.get("mobile", 0) > 80 and found.get("desktop", 100) < 20

        eventually(parted, "each device has its version", END_S)
        assert set(team.status(name)["segments"]) == {"mobile", "desktop"}
        done = team.until(name, "Aborted", within_s=END_S)
    assert done["weights"] == {"12": 100} and "the planned 1m are over" in done["message"]
    decided_again(team, name)


def test_a_canary_is_promoted_by_what_it_earns(team: Team, collector: Collector, operator: Any) -> None:
    """Verify that nothing goes on while the collector is away, that what is sent afterwards is counted, once, and
    that the collector's own restart changes nothing of that."""
    operator("one")
    collector.kill()
    document = sample(
        "release-canary-decision", steps=[{"weight": 10, "minSamples": 60}, {"weight": 50, "minSamples": 200}]
    )
    name = "flights-13-earning"
    with Audience(
        team.controllers, team.traffic, collector.url, "flights", earns={"12": 0.3, "13": 0.7}
    ) as audience:
        team.apply(document)
        team.until(name, "Progressing", step=2)

        def held() -> bool:
            checks = {check["name"]: check for check in team.status(name).get("checks", ())}
            return "does not answer" in checks["bookings"]["reason"]

        eventually(held, "the silence is told")
        before = audience.asked
        eventually(lambda: audience.asked > before + 400, "requests go on")
        assert team.status(name)["phase"] == "Progressing" and held()
        eventually(lambda: team.conditions(name)["Available"] == ("True", "InForce"), "it is in force")
        collector.start()
        eventually(lambda: any("outcomes" in arm for look in evidence(team, name) for arm in look["arms"].values()),
                   "rewards are counted", END_S)  # fmt: skip
        collector.kill()
        time.sleep(1.5)
        collector.start()
        done = team.until(name, "Promoted", within_s=END_S)
    assert done["decision"]["reason"].startswith("bookings: ")
    assert team.acts(name) == ["start", "advance", "promote"]
    counts = [
        look["arms"]["13"]["outcomes"]["bookings"].get("n", 0)
        for look in evidence(team, name)
        if "outcomes" in look["arms"].get("13", {})
    ]
    assert counts == sorted(counts) and 0 < counts[-1] <= audience.answered["13"]
    decided_again(team, name)


SKEWED: dict[str, Any] = {
    "name": "features", "kind": "guardrail", "metric": "featureSkew", "source": "predictions", "bound": 2,
    "minSamples": 60,
}  # fmt: skip


def test_what_versions_are_served_is_held_to_the_offline_rows(team: Team, tmp_path: Path) -> None:
    """Verify that a canary waits for the first offline rows and says so, that an honest one is promoted once they are
    there, and that one which is served other values is rolled back, with the input's name; over a restart of both the
    collector and the operator in between."""
    shop = shop_features.make(tmp_path / "shop", time.time() - 1800)
    for version in ("12", "13", "14"):
        shop.publish(version)

    made = {"of this shop": 0, "of another": 0}

    def served(number: int, version: str, at: float) -> dict[str, Any]:
        found = shop.served(number, at)
        other = version == "14" and number % 3 == 0
        if other:
            found["features"][0] += 1000.0
        if version == "14":
            made["of another" if other else "of this shop"] += 1
        return found

    def canary(candidate: str, champion: str) -> dict[str, Any]:
        document = sample("release-canary-decision", steps=[{"weight": 50, "minSamples": 60}])
        document["metadata"]["name"] = f"shop-{candidate}"
        document["spec"] |= {"model": "shop", "candidate": candidate, "champion": champion}
        document["spec"]["checks"] = [document["spec"]["checks"][0], SKEWED]
        return document

    def skew(name: str) -> dict[str, Any]:
        return next(
            (dict(check) for check in team.status(name).get("checks", ()) if check["name"] == "features"),
            {"reason": "", "verdict": ""},
        )

    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(
            contextlib.closing(Collector(shop.settings.home, shop.settings.project))
        )
        collector.start()
        operator = team.operator("one", WINDLASS_COLLECTOR_URL=collector.url)
        stack.enter_context(Audience(team.controllers, team.traffic, collector.url, "shop", served=served))
        team.apply(canary("13", "12"))
        eventually(
            lambda: "no finished offline rows of 'shop'" in skew("shop-13")["reason"], "it is told", END_S
        )
        assert skew("shop-13")["verdict"] == "INCONCLUSIVE"
        assert team.status("shop-13")["phase"] == "Progressing"
        # every moment of this test is known in advance, to the rows as to the servers
        shop.build(int(time.time()) + 3600)
        team.until("shop-13", "Promoted", within_s=END_S)
        assert skew("shop-13")["reason"].startswith("rows that differ from the point-in-time features 0 of ")
        last = evidence(team, "shop-13")[-1]["arms"]["13"]
        assert last["skew"][0] >= 60 and last["skew"][1] == 0
        collector.kill()
        operator.kill()
        collector.start()
        operator.start()
        team.apply(canary("14", "13"))
        done = team.until("shop-14", "RolledBack", within_s=END_S)
        assert done["decision"]["reason"].startswith("features: rows that differ")
        assert "most often sales (" in done["decision"]["reason"]
        assert team.weights("shop") == {"13": 100}
    checked, mismatched = evidence(team, "shop-14")[-1]["arms"]["14"]["skew"]
    # (a share would be no measure: it ends at the first look that is proof enough)
    assert 0 < mismatched <= made["of another"] and checked - mismatched <= made["of this shop"]
    # the transformation is made of the wrong value, and differs where it divides by no zero
    assert set(evidence(team, "shop-14")[-1]["arms"]["14"]["skewByInput"]) <= {"sales", "per_visit"}
    for name in ("shop-13", "shop-14"):
        decided_again(team, name)


def test_whoever_chose_the_version_is_no_evidence(team: Team, collector: Collector, operator: Any) -> None:
    """Verify that a canary is judged by the requests that its weights sent it: a third of the users choose it, nothing
    that they ask is answered, and it is promoted."""
    operator("one")
    header, value = PREVIEW
    document = stage.release("flights-13", "flights", "13", "12")
    document["spec"]["strategy"]["match"] = {"header": header, "value": value}
    with Audience(team.controllers, team.traffic, collector.url, "flights", previewing=3):
        team.apply(document)
        done = team.until("flights-13", "Promoted", within_s=END_S)
    verdicts = {check["name"]: check["verdict"] for check in done["checks"]}
    assert verdicts["errors"] == verdicts["sampleRatio"] == "PASS"
    assert team.acts("flights-13") == ["start", "advance", "promote"]
    arms = evidence(team, "flights-13")[-1]["arms"]
    assert arms["13"]["requests"] >= 180 and arms["13"]["errors"] == 0
    assert (
        f'version="13",namespace="{team.name}",assigned="false",protocol="v1",code="500"'
        in team.traffic.page()
    )
    decided_again(team, "flights-13")


def test_a_shadow_outlives_its_leader(team: Team, collector: Collector, operator: Any) -> None:
    """Verify that whoever takes over goes on from the journal: no pair is lost or counted twice."""
    first = operator("first")
    eventually(lambda: "this replica leads" in first.said(), "the first leads")
    second = operator("second")
    with shadowed(team, collector):
        # the first is to be gone long before
        team.apply(sample("release-shadow-gateway", minSamples=500, minDuration="30s"))
        name = "flights-13-shadowed"
        eventually(lambda: any(look.get("paired") for look in evidence(team, name)), "pairs are known", END_S)
        first.kill()
        before = team.journal(name)
        assert team.acts(name) == ["start"]
        team.until(name, "Promoted", within_s=END_S)
    assert "this replica leads" in second.said()
    after = team.journal(name)
    assert after[: len(before)] == before and team.acts(name) == ["start", "promote"]
    whole: list[float] = []
    for look in evidence(team, name):
        told = look.get("paired", {}).get("brier")
        if told is not None:
            assert told["from"] == len(whole)  # each value stands in the journal once
            whole += told["values"]
    assert 0 < len(whole) <= evidence(team, name)[-1]["pairs"]["n"]
    requests = [look["arms"]["13"]["requests"] for look in evidence(team, name) if "13" in look["arms"]]
    assert requests == sorted(requests)
    decided_again(team, name)


def test_a_pause_gives_an_experiment_its_time_back(team: Team, collector: Collector, operator: Any) -> None:
    """Verify that units are enrolled beyond the planned end while it is paused, over a restart of the operator, and
    that it ends later by as much as it was paused."""
    leader = operator("one")
    name = "flights-bookings"

    def units() -> int:
        arms = evidence(team, name)[-1]["arms"]
        return sum(arm.get("units", 0) for arm in arms.values())

    with Audience(team.controllers, team.traffic, collector.url, "flights", more=True):
        team.apply(
            sample(
                "release-experiment-gateway",
                minDuration="1s", maxDuration="20s", outcomeDelay="2s", period="5s",
            )
        )  # fmt: skip
        began = datetime.fromisoformat(team.until(name, "Progressing", step=1)["startedAt"])
        team.command(name, "pause")
        team.until(name, "Paused")
        leader.kill()
        leader.start()
        planned = began + timedelta(seconds=20)
        eventually(lambda: datetime.now(UTC) > planned + timedelta(seconds=12), "the planned end is over")
        # by then all that was asked before it is in the collector's store
        eventually(
            lambda: datetime.fromisoformat(evidence(team, name)[-1]["at"]) > planned, "it is looked at", END_S
        )
        before = units()
        eventually(lambda: units() > before + 60, "units are enrolled", END_S)
        team.command(name, "resume")
        team.until(name, "Aborted", within_s=END_S)
    paused, resumed = (
        datetime.fromisoformat(next(r["at"] for r in team.journal(name) if r.get("action") == action))
        for action in ("pause", "resume")
    )
    ended = datetime.fromisoformat(team.journal(name)[-2]["at"])
    assert ended - began >= (resumed - paused) + timedelta(seconds=21)
    assert team.weights("flights") == {"12": 100}
    decided_again(team, name)
