"""A release judged by its model servers' own counters, while some callers choose the version.

Pages are those of a real server's counters, scraped every 15 s; what weights split is split exactly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.release import spec, state
from serving.release.checks import SAMPLE_RATIO
from serving.release.decision import Decision
from serving.release.engine import next_step
from serving.release.evidence import Evidence
from serving.release.prometheus.client import Prometheus, Series
from serving.runtime.metrics import Metrics
from tests.unit.operator.model_stage import GUARD, Stage
from windlass.operator.watching import Watching

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
INTERVAL_S, LOOKS_EVERY_S = 15, 5
MATCH = {"match": {"header": "x-windlass-preview", "value": "13"}}
SLOW = {**GUARD, "name": "slow", "metric": "latencyP95", "bound": "50ms"}


@dataclass(frozen=True)
class Asked:
    """What a version is asked every second.

    Attributes:
        route: what its servers read in the header.
        failing: whether these fail, and slowly.
    """

    version: str
    route: bytes | None
    each_second: int
    failing: bool = False


SPLIT = (Asked("12", b"weights", 90), Asked("13", b"weights", 10))


@dataclass
class Servers(Prometheus):
    """Both versions' servers and the Prometheus that scrapes them; it reads selectors as the real one does.

    Attributes:
        labelled: whether the servers' image is one whose counters have the label `assigned`.
    """

    asked: tuple[Asked, ...]
    labelled: bool = True

    def __post_init__(self) -> None:
        super().__init__("http://prometheus:9090")
        self.now = 0
        self.pages = {version: Metrics() for version in ("12", "13")}
        for version, page in self.pages.items():
            page.of("flights", version)
        self.scrapes: dict[tuple[str, frozenset[tuple[str, str]]], list[tuple[float, float]]] = {}
        self.scrape(-INTERVAL_S)

    def second(self) -> None:
        self.now += 1
        for asked in self.asked:
            counts = self.pages[asked.version].of("flights", asked.version).of(asked.route)
            for _ in range(asked.each_second):
                counts.answered("v2", 503 if asked.failing else 200, 0.4 if asked.failing else 0.004)
        if self.now % INTERVAL_S == 0:
            self.scrape(self.now)

    def scrape(self, at: float) -> None:
        for version, page in self.pages.items():
            for family in text_string_to_metric_families(page.page([]).decode()):
                seen: dict[frozenset[tuple[str, str]], float] = {}
                for sample in family.samples:
                    labels = {**sample.labels, "pod": f"flights-{version}-predictor-1", "job": "models"}
                    if not self.labelled:
                        labels.pop("assigned", None)
                    key = frozenset({**labels, "__name__": sample.name}.items())
                    seen[key] = seen.get(key, 0.0) + sample.value
                for labels, value in seen.items():
                    name = dict(labels)["__name__"]
                    self.scrapes.setdefault((name, labels), []).append((START.timestamp() + at, value))

    def has(self, promql: str, at: datetime) -> bool:
        return True

    def samples(self, promql: str, at: datetime) -> list[Series]:
        selector = re.fullmatch(r"(\w+)\{(.*)\}\[(\d+)ms\]", promql)
        assert selector is not None, promql
        if selector[1] == "up":
            return []
        matchers = re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector[2])
        assert ",".join(f'{name}{how}"{value}"' for name, how, value in matchers) == selector[2]
        end, found = at.timestamp(), []
        for (name, labels), samples in self.scrapes.items():
            own = {**dict(labels), "namespace": "team"}
            inside = tuple(s for s in samples if end - float(selector[3]) / 1000 <= s[0] <= end)
            if name == selector[1] and inside and all(_matches(own.get(m[0], ""), *m[1:]) for m in matchers):
                found.append(Series({k: v for k, v in own.items() if v}, inside))
        return found


def _matches(value: str, how: str, wanted: str) -> bool:
    if how == "=~":
        return re.fullmatch(wanted, value) is not None
    return (value == wanted) == (how == "=")


def decided(servers: Servers, backend: str, **strategy: Any) -> Decision:
    """The last decision within ten minutes."""
    stage = Stage()
    document = {
        "kind": "Release",
        "metadata": {"name": "flights-13", "namespace": "team"},
        "spec": {"model": "flights", "candidate": "13", "champion": "12", "backend": backend,
                 "strategy": {"type": "canary", "steps": [{"weight": 10, "minSamples": 5000}], **strategy},
                 "checks": [GUARD, SLOW]},
    }  # fmt: skip
    found = next_step(state.initial(spec.parse(document), "12"), Evidence(START), START)
    place = replace(stage.place, prometheus=servers, namespace="team")
    watching = Watching(place, found.state, stage.model._work.chosen)
    for second in range(1, 601):
        servers.second()
        if second % LOOKS_EVERY_S == 0 and found.state.live:
            now = START + timedelta(seconds=second)
            found = next_step(found.state, watching.evidence(found.state, now), now)
    return found


def test_whoever_chose_the_version_is_no_evidence() -> None:
    """Verify that a canary is judged by the requests that its weights sent it, whatever becomes of the others."""
    found = decided(Servers((*SPLIT, Asked("13", b"match", 20, failing=True))), "gateway", **MATCH)
    assert (found.action, found.state.phase) == ("promote", "Promoted"), found.reason
    verdicts = {verdict.check: verdict for verdict in found.verdicts}
    assert {check: verdict.outcome for check, verdict in verdicts.items()} == {
        "errors": "PASS", "slow": "PASS", SAMPLE_RATIO: "PASS"
    }  # fmt: skip
    # 15 s of ten requests each second are the most that a scrape may not have brought yet
    assert 5000 <= verdicts["errors"].n <= 5150
    assert verdicts[SAMPLE_RATIO].n > 45_000


def test_servers_that_cannot_tell_count_everybody() -> None:
    """Verify that counters of an older image are counted, and what comes of it: chosen requests are in no share."""
    found = decided(Servers((*SPLIT, Asked("13", b"match", 20)), labelled=False), "gateway", **MATCH)
    assert (found.action, found.check) == ("hold", SAMPLE_RATIO)
    assert found.reason.startswith("the arms did not get their shares of the traffic")
    assert decided(Servers(SPLIT, labelled=False), "gateway").action == "promote"


@pytest.mark.parametrize("backend", ["kserve", "knative"])
def test_nobody_hides_failures_behind_a_header(backend: str) -> None:
    """Verify that where no route of ours overwrites it, what a caller puts into the header hides nothing."""
    own = (Asked("12", None, 90), Asked("13", None, 5), Asked("13", b"match", 5, failing=True))
    found = decided(Servers(own), backend)
    assert (found.action, found.check) == ("roll_back", "errors"), found.reason
