"""What one release's evidence holds, read from real logs in the three ways in which time goes on a platform."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from monitoring.collector.feedback_log import line
from monitoring.labels import Label, LabelTail
from monitoring.predictions import PredictionTail
from serving.release import spec
from serving.release.envoy.access_log import Access, AccessLog
from serving.release.envoy.admin import AdminError
from serving.release.evidence import ArmEvidence, Evidence, Pairs
from windlass.local import positions
from windlass.local.stalled import WRITTEN_WITHIN_S
from windlass.local.watch import ReleaseWatch
from windlass.settings import Settings

BEGAN = 1_700_000_000.0
LONG_AGO = 1_370_000_000.0

CHECKS = [
    {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2},
    {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 5},
    {"name": "skew", "kind": "guardrail", "metric": "featureSkew", "source": "predictions", "bound": 1},
    {"name": "loss", "kind": "decision", "metric": "brier", "source": "feedback"},
]
INPUTS = ({"name": "x", "view": "v", "default": 0.0},)


def release(strategy=None, checks=CHECKS):
    return spec.parse(
        {
            "kind": "Release",
            "metadata": {"name": "r"},
            "spec": {
                "model": "m",
                "champion": "1",
                "candidate": "2",
                "strategy": strategy or {"type": "canary", "steps": [{"weight": 10}], "mirror": True},
                "checks": checks,
            },
        }
    )


@dataclass
class Machine:
    """Logs on a disk and whoever reads them; time is the seconds since the release began."""

    folder: Path
    time: str
    began: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = self.folder / "predictions"
        self.logs.mkdir(exist_ok=True)
        self.event_base = LONG_AGO if self.time != "present" else BEGAN
        self.read_again()

    def read_again(self) -> None:
        """As a platform does that is started: a watch of its own, and every log from where the release began."""
        self.predictions = PredictionTail(self.logs, offsets=self.began)
        self.accesses = AccessLog(self.folder / "access.jsonl")
        self.labels = LabelTail(self.folder / "feedback.jsonl")
        replay = self.time == "replay"
        self.watch = ReleaseWatch(
            release(),
            "1",
            LONG_AGO if replay else BEGAN,
            {"2": INPUTS},
            lambda rows: pd.DataFrame({"x": [1.0] * len(rows)}),
            replay=replay,
        )

    def begin(self) -> None:
        """The release begins: all that was written has been read."""
        self.predictions.poll(), self.accesses.poll(), self.labels.poll()
        self.began = self.predictions.offsets
        self.read_again()

    def ask(self, name: str, at: float, scores: dict[str, float]) -> None:
        """One request, answered by version 1 and by a copy at each other version."""
        event = LONG_AGO if self.time == "standing" else self.event_base + at
        for version, score in scores.items():
            record = {"request_id": name, "model": "m", "version": version, "at": event, "entities": {}}
            record |= {"request": {}, "features": [1.0], "score": score, "latency_ms": 2.0}
            record |= {"mirrored": version != "1"}
            self._append(f"predictions/{version}.jsonl", record)
        access = {"request_id": name, "cluster": "m@1", "at": BEGAN + at, "code": 200, "duration_us": 2500}
        access |= {"upstream_us": 1900, "flags": "-", "route": "m", "unit": None, "bucket": None}
        self._append("access.jsonl", {**access, "event_at": repr(event) if self.time == "replay" else "-"})

    def label(self, name: str, at: float, value: int) -> None:
        told = Label(name, value, (BEGAN if self.time == "present" else LONG_AGO) + at, received=BEGAN + at)
        with (self.folder / "feedback.jsonl").open("ab") as file:
            file.write(line(told))

    def _append(self, name: str, record: dict[str, object]) -> None:
        with (self.folder / name).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def evidence(self, at: float) -> Evidence:
        self.watch.add_predictions(self.predictions.poll())
        self.watch.add_accesses(self.accesses.poll())
        self.watch.add_labels(self.labels.poll())
        self.watch.check_skew(at_least=1)
        base = LONG_AGO if self.time == "replay" else BEGAN
        return self.watch.evidence(datetime.fromtimestamp(base + at, UTC))


def sums(found: Evidence) -> tuple[object, ...]:
    """What does not depend on when somebody looked."""
    return found.arms, found.pairs, found.paired, dict(found.silent)


@pytest.mark.parametrize("time", ["present", "standing", "replay"])
def test_the_evidence_is_what_came_since_the_release_began(tmp_path, time):
    """Verify for each kind of time that what came since counts, nothing from before, and all after a restart."""
    machine = Machine(tmp_path, time)
    for n in range(5):
        machine.ask(f"before-{n}", -100.0 + n, {"1": 0.1, "2": 0.9})
    machine.begin()
    for n in range(10):
        machine.ask(f"q{n}", 1.0 + n, {"1": 0.4, "2": 0.6 if n < 4 else 0.4})
    first = machine.evidence(15.0)
    assert first.pairs == Pairs(10, 4, {200: 4, 0: 6})
    assert first.arms["1"].requests == 10
    assert (first.arms["2"].skew_checked, first.arms["2"].skew_mismatched) == (10, 0)
    for n in range(10):
        machine.label(f"q{n}", 20.0 + n, 1)
    machine.label("before-0", 25.0, 1)
    found = machine.evidence(40.0)
    assert found.paired["brier"] == pytest.approx([0.4**2 - 0.6**2] * 4 + [0.0] * 6)
    machine.read_again()
    assert sums(machine.evidence(40.0)) == sums(found)


def test_where_a_release_began_outlives_the_platform(tmp_path):
    settings = Settings(home=tmp_path, project=tmp_path)
    assert positions.kept(settings, "m", "r") == {}
    positions.keep(settings, "m", "r", {"m-1.jsonl": 7})
    assert positions.kept(settings, "m", "r") == {"m-1.jsonl": 7}
    assert positions.kept(settings, "other", "r") == {}


def test_the_last_lines_of_a_log_are_near_its_end(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"x" * (positions.LAST + 10))
    (tmp_path / "b.jsonl").write_bytes(b"x")
    ends = positions.ends(tmp_path)
    assert positions.shortly_before(ends) == {"a.jsonl": 10, "b.jsonl": 0}


def test_where_no_check_asks_for_losses_none_are_kept():
    watch = ReleaseWatch(release(checks=CHECKS[:2]), "1", BEGAN, {"2": INPUTS}, lambda rows: None)
    found = watch.evidence(datetime.fromtimestamp(BEGAN, UTC))
    assert found.paired == {}
    assert found.pairs == Pairs()


# --- a log that stops


@dataclass
class Proxy:
    """What the admin interface says."""

    count: int | None = 0

    def __call__(self) -> int:
        if self.count is None:
            raise AdminError("nobody answers")
        return self.count


@dataclass
class Looks:
    """A look a second: `said` at the last one; `lines` of `answers` come into the log."""

    proxy: Proxy = field(default_factory=Proxy)

    def __post_init__(self) -> None:
        self.watch = ReleaseWatch(release(), "1", BEGAN, {"2": INPUTS}, lambda rows: None, counted=self.proxy)
        self.at, self.n = 0.0, 0

    def look(self, lines: int) -> str | None:
        self.at += 1.0
        self.n += lines
        accesses = [
            Access(f"{self.n}-{i}", "m", "1", BEGAN + self.at, 200, 1.0, 1.0, "", None) for i in range(lines)
        ]
        self.watch.add_accesses(accesses)
        found = self.watch.evidence(datetime.fromtimestamp(BEGAN + self.at, UTC))
        return found.silent.get("envoy")


def test_a_log_that_stops_while_the_proxy_answers_is_silent():
    """Verify that evidence which nobody writes down any more holds a release, until it is written again."""
    looks = Looks()
    for _ in range(5):
        looks.proxy.count += 10
        assert looks.look(10) is None
    said = []
    for _ in range(int(WRITTEN_WITHIN_S) + 2):
        looks.proxy.count += 10
        said.append(looks.look(0))
    assert said[0] is None
    assert said[-1] == "the access log has none of 40 answers that the proxy counted since its last line"
    looks.proxy.count += 10
    assert looks.look(10) is None


def test_a_quiet_proxy_owes_no_line():
    looks = Looks()
    looks.proxy.count = 10
    assert [looks.look(10), *(looks.look(0) for _ in range(20))] == [None] * 21


def test_a_line_that_is_a_look_late_is_no_silence():
    looks = Looks()
    looks.look(0)
    for _ in range(20):
        looks.proxy.count += 1
        assert looks.look(0) is None
        assert looks.look(1) is None


def test_a_new_proxy_counts_from_nothing_and_owes_what_the_old_one_owed():
    looks = Looks()
    looks.proxy.count = 1000
    looks.look(1000)
    looks.proxy.count = 0
    assert [looks.look(0) for _ in range(10)] == [None] * 10
    looks.proxy.count = 5
    assert [looks.look(0) for _ in range(4)][-1] is not None
    looks.proxy.count = 0
    assert looks.look(0) is not None


def test_what_a_new_proxy_had_answered_before_the_first_look_is_owed_too():
    looks = Looks()
    looks.proxy.count = 1000
    looks.look(1000)
    looks.proxy.count = 5
    assert "none of 5 answers" in [looks.look(0) for _ in range(4)][-1]


def test_a_proxy_that_does_not_say_is_silent_only_where_the_log_is():
    looks = Looks(Proxy(None))
    assert [looks.look(1) for _ in range(10)] == [None] * 10
    assert "nobody answers" in [looks.look(0) for _ in range(4)][-1]
    looks.proxy.count = 7
    assert looks.look(0) is None


class Elsewhere:
    """Answers that somebody else counted, of one version alone."""

    def evidence(self, at: datetime) -> Evidence:
        return Evidence(at, {"1": ArmEvidence(requests=7, errors=1)})


def test_the_split_is_judged_by_one_moments_counts(tmp_path: Path) -> None:
    """Verify that Prometheus' answers are judged, and the access log says how requests were split."""
    machine = Machine(tmp_path, "present")
    machine.watch = ReleaseWatch(
        release(), "1", BEGAN, {"2": INPUTS}, lambda rows: pd.DataFrame(), answers=Elsewhere()
    )
    for number in range(3):
        machine.ask(f"r{number}", 1.0, {"1": 0.4})
    machine.watch.add_accesses(machine.accesses.poll())
    arms = machine.watch.evidence(datetime.fromtimestamp(BEGAN + 5, UTC)).arms
    assert [(arms[v].requests, arms[v].errors, arms[v].units) for v in ("1", "2")] == [(7, 1, 3), (0, 0, 0)]
