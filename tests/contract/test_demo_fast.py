"""The whole loop as a newcomer runs it, `windlass demo --fast`: what it writes, what it catches, that it repeats."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SEED = "20"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def start(out: Path, home: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "WINDLASS_HOME": str(home)}
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "windlass", "demo", "--fast", "--seed", SEED, "--out", str(out), "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env=environment,
        )


def processes_of(out: Path) -> list[str]:
    """Command lines of processes that work below `out`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if entry.name.isdigit() and int(entry.name) != os.getpid() and (f"{out}/home" in line + environment):
            found.append(line)
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Path]]:
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "out"
    process = start(out, folder / "home")
    output, _ = process.communicate()
    assert process.returncode == 0, out.with_suffix(".log").read_text()[-3000:]
    yield json.loads(output), out


def release(summary: dict[str, Any], sabotage: str | None) -> list[dict[str, Any]]:
    return [r for r in summary["releases"] if r["sabotage"] == sabotage]


def test_no_request_fails_and_enough_are_made(story: tuple[dict[str, Any], Path]) -> None:
    """Verify 8,000 requests at least, every one of them answered."""
    summary, out = story
    assert summary["requests"] >= 8000
    assert summary["failed_requests"] == 0
    assert json.loads((out / "summary.json").read_text()) == summary


def test_the_summary_has_the_stated_fields(story: tuple[dict[str, Any], Path]) -> None:
    """Verify the names that others read."""
    summary, _ = story
    stated = {
        "workload", "requests", "failed_requests", "latency_ms", "versions", "months", "triggers", "sampled_every",
        "releases", "rollbacks", "wall_seconds", "peak_rss_mb",
    }  # fmt: skip
    assert stated <= set(summary)
    assert {"p50", "p99"} <= set(summary["latency_ms"])
    fields = {
        "versions": {"version", "trained_from", "trained_to", "offline_auc", "state"},
        "months": {"month", "rows", "late_rate", "auc_live", "auc_frozen", "auc_control"},
        "triggers": {"at", "signal", "accepted", "reason"},
        "releases": {"version", "strategy", "outcome", "reason", "requests_to_verdict", "sabotage"},
        "rollbacks": {"version", "seconds", "failed_requests"},
    }
    for name, keys in fields.items():
        assert summary[name], name
        assert all(keys <= set(row) for row in summary[name]), name


def test_both_sabotages_are_caught_on_live_traffic(story: tuple[dict[str, Any], Path]) -> None:
    """Verify that each was rolled back by the check that can see it, without a failed request."""
    summary, _ = story
    (features,) = release(summary, "features")
    (latency,) = release(summary, "latency")
    assert features["outcome"] == latency["outcome"] == "rolled_back"
    assert features["reason"].startswith(("feature-skew", "brier"))
    assert latency["reason"].startswith("latency")
    assert [r["version"] for r in summary["rollbacks"]] == [features["version"], latency["version"]]
    assert all(r["failed_requests"] == 0 for r in summary["rollbacks"])


def test_a_good_retrained_candidate_is_promoted(story: tuple[dict[str, Any], Path]) -> None:
    """Verify that the loop promotes as well as it refuses, in at most three pipeline runs."""
    summary, _ = story
    honest = release(summary, None)
    assert len(honest) <= 3
    assert [r for r in honest[1:] if r["outcome"] == "promoted"]
    states = {v["version"]: v["state"] for v in summary["versions"]}
    assert list(states.values()).count("champion") == 1
    assert {states[r["version"]] for r in summary["releases"] if r["outcome"] == "rolled_back"} == {
        "rolled_back"
    }


def test_the_live_model_beats_the_frozen_one(story: tuple[dict[str, Any], Path]) -> None:
    """Verify the direction of the gain on 4,000 flights; its size is the full story's to show."""
    half = story[0]["second_half"]
    assert half["rows"] > 4000
    assert half["auc_live"] > half["auc_frozen"]


def test_nothing_in_the_engine_knows_the_sabotage(story: tuple[dict[str, Any], Path]) -> None:
    """Verify that journals, releases and bundles of the sabotaged versions say nothing of their faults."""
    _, out = story
    home = out / "home"
    told = b"".join(p.read_bytes() for p in (home / "journal").rglob("*.jsonl"))
    told += b"".join(p.read_bytes() for p in (home / "models").rglob("serving.json"))
    for word in (
        b"sabot",
        b"permuted",
        b"stale_values",
        b"wrong_unit",
        b"zeroed",
        b"shifted_entity",
        b"delay:150",
    ):
        assert word not in told


def test_every_decision_says_when_what_why(story: tuple[dict[str, Any], Path]) -> None:
    """Verify one JSON object a line, in event time, each with its inputs and its rule."""
    lines = [json.loads(line) for line in (story[1] / "decisions.jsonl").read_text().splitlines()]
    assert all({"at", "decision", "inputs", "rule"} <= set(line) and line["rule"] for line in lines)
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert len([line for line in lines if line["decision"].endswith(": roll_back")]) == 2


def test_the_report_is_one_file_that_asks_for_nothing(story: tuple[dict[str, Any], Path]) -> None:
    """Verify its size, and that no address outside it is loaded."""
    page = (story[1] / "report.html").read_text()
    assert len(page) < 4_000_000
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "@import" not in page
    assert page.count("<svg") >= 5


def test_served_features_are_the_point_in_time_ones(story: tuple[dict[str, Any], Path]) -> None:
    """Verify offline/online parity of the whole replay through `windlass features check`."""
    environment = {**os.environ, "WINDLASS_HOME": str(story[1] / "home")}
    result = subprocess.run(
        [sys.executable, "-m", "windlass", "features", "check", "--limit", "10000", "--json"],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    report = json.loads(result.stdout)
    assert report["parity"] is True
    assert report["checked"] + report["degraded"] >= 7500
    assert report["mismatched"] == 0


def test_no_process_is_left(story: tuple[dict[str, Any], Path]) -> None:
    """Verify that the demo ended all that it started."""
    assert processes_of(story[1]) == []


def test_a_killed_demo_leaves_nothing_and_its_next_run_repeats_the_story(
    story: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """Verify that SIGKILL in the middle of a release leaves no process, and the same seed decides the same again."""
    out = tmp_path / "out"
    killed = start(out, tmp_path / "home")
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline and killed.poll() is None:
        if "release of version" in out.with_suffix(".log").read_text():
            break
        time.sleep(0.2)
    assert killed.poll() is None, out.with_suffix(".log").read_text()[-2000:]
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    gone = time.monotonic() + 30
    while processes_of(out) and time.monotonic() < gone:
        time.sleep(0.1)
    assert processes_of(out) == []

    again = start(out, tmp_path / "home")
    output, _ = again.communicate()
    assert again.returncode == 0, out.with_suffix(".log").read_text()[-3000:]
    second = json.loads(output)
    assert second["failed_requests"] == 0

    # a verdict on latency rests on measured times and may move by a tick
    (latency,) = release(second, "latency")

    def decided(folder: Path) -> list[tuple[str, str, str]]:
        lines = [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]
        mine = f"release {latency['version']}:"
        return [(d["at"], d["decision"], d["rule"]) for d in lines if not d["decision"].startswith(mine)]

    assert decided(out) == decided(story[1])
    assert second["months"] == story[0]["months"] or _close(second["months"], story[0]["months"])


def _close(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """Whether only the rows served by the slow version moved."""
    return all(
        a["rows"] == b["rows"] and abs((a["auc_live"] or 0) - (b["auc_live"] or 0)) < 0.01
        for a, b in zip(one, other, strict=True)
    )
