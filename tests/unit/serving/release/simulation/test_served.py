"""Which looks were fair to both versions."""

from __future__ import annotations

from typing import Any

import pytest

from serving.release.simulation.run import play
from serving.release.simulation.served import Tick, unfair

CALM, DRIFT = Tick(400, False, False), Tick(400, True, False)
OUTAGE, BOTH = Tick(800, False, True), Tick(800, True, True)


def record(requests: int) -> dict[str, Any]:
    half = requests // 2
    return {
        "state": {"requests": {"12": {"n": half, "events": 0}, "13": {"n": requests - half, "events": 0}}}
    }


@pytest.mark.parametrize(
    ("ticks", "since", "found"),
    [
        pytest.param([CALM, BOTH], 0, True, id="moved-in-the-outage"),
        pytest.param([DRIFT, OUTAGE], 0, True, id="moved-before-it"),
        pytest.param([CALM, OUTAGE], 0, False, id="nobody-moved-anything"),
        pytest.param([DRIFT, BOTH], 400, False, id="failing-all-the-time"),
        pytest.param([DRIFT, OUTAGE], 400, False, id="seen-by-the-look-before"),
        pytest.param([CALM, Tick(800, True, False)], 0, False, id="no-outage"),
    ],
)
def test_a_look_is_unfair_where_weights_and_failures_changed(
    ticks: list[Tick], since: int, found: bool
) -> None:
    assert unfair(ticks, record(since), record(800)) is found


@pytest.mark.parametrize("seed", [1630, 1888])
def test_nothing_is_promised_of_a_good_version_that_had_to_look_bad(seed: int) -> None:
    """Verify it of seeds in which somebody moved the weights of a good version while an outage began."""
    outcome = play(seed)
    assert (outcome.promised, outcome.ended, outcome.violations) == (None, "RolledBack", [])
