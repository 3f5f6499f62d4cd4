"""The benchmark's own reckoning: a quantile of buckets, and what an outage lost."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.operator import processes, scale
from windlass.errors import UsageError
from windlass.operator.metrics import BUCKETS

NAME = "windlass_operator_reconcile_seconds"


def test_a_quantile_is_the_bucket_that_holds_it() -> None:
    """Verify that no quantile is shown better than the histogram knows."""
    risen = {
        f'{NAME}_bucket{{kind="release",le="{bound}"}}': 99.0 if bound >= 0.1 else 40.0 for bound in BUCKETS
    }
    risen[f'{NAME}_count{{kind="release"}}'] = 100.0
    assert scale._quantile(risen, NAME, 0.4) == BUCKETS[0]
    assert scale._quantile(risen, NAME, 0.99) == 0.1
    assert scale._quantile(risen, NAME, 0.995) == float("inf")


def record(seq: int, step: int | None = None) -> dict[str, Any]:
    return {"kind": "decision", "seq": seq, "acts": step is not None, "state": {"step": step or 0}}


BEFORE = [{"kind": "release"}, record(1, 0), record(2), record(3, 1)]


@pytest.mark.parametrize(
    ("after", "wrong"),
    [
        pytest.param([*BEFORE, record(4), record(5, 2)], 0, id="it-went-on"),
        pytest.param(BEFORE, 0, id="it-stood-still"),
        pytest.param(BEFORE[:-1], 1, id="a-decision-is-gone"),
        pytest.param([*BEFORE, record(5)], 1, id="a-number-is-missing"),
        pytest.param([*BEFORE, record(4), record(4)], 1, id="a-decision-was-written-twice"),
        pytest.param([*BEFORE, record(4, 1)], 1, id="a-step-was-taken-twice"),
        pytest.param([], 1, id="the-journal-is-gone"),
    ],
)
def test_what_an_outage_lost_is_found(after: list[dict[str, Any]], wrong: int) -> None:
    """Verify that each way of losing or repeating a decision is counted."""
    assert scale.lost({"flights-13": BEFORE}, {"flights-13": after}) == wrong


def test_what_a_process_uses_is_read_of_the_kernel() -> None:
    """Verify that a child is found by its name and that its CPU rises while it computes."""
    busy = subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"])
    try:
        found = processes.children()
        assert found["bench"] == os.getpid()
        assert (found.get("sh") or found.get("dash")) == busy.pid
        before = processes.use(busy.pid)
        while processes.use(busy.pid).cpu_s <= before.cpu_s:
            time.sleep(0.05)
        assert processes.use(busy.pid).waited_s >= before.waited_s
    finally:
        busy.kill()
        busy.wait()


def test_who_may_not_come_first_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Verify that figures of a machine of its own are not taken where nobody made it one."""
    monkeypatch.setattr(processes, "PROC", tmp_path)
    with pytest.raises(UsageError, match="--first cannot be done here"):
        processes.come_first({"operator": 1})
