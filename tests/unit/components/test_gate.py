"""The truth table of the gates: one row an outcome."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from components import gate
from components.gate import ChampionComparison, Facts, SliceComparison
from windlass.contract import Gates

GATES = Gates(
    minimum_auc=0.7,
    champion_margin=0.01,
    slice_margin=0.05,
    slice_minimum_rows=500,
    calibration_bound=0.1,
    latency_budget_ms=5,
    missing_feature_auc_floor=0.55,
)
CHAMPION = ChampionComparison("3", 6000, 0.004, -0.002, (SliceComparison("shop=a", 900, 0.72, 0.74),))
GOOD = Facts(6000, 0.75, 0.03, 0.2, {"weather": 0.7, "delays": 0.6}, CHAMPION)


@pytest.mark.parametrize(
    ("facts", "failed"),
    [
        pytest.param(GOOD, [], id="a-good-candidate-passes"),
        pytest.param(replace(GOOD, champion=None), [], id="no-champion-passes"),
        pytest.param(replace(GOOD, auc=0.7), [], id="auc-at-its-bound-passes"),
        pytest.param(replace(GOOD, auc=0.6999), ["minimumAuc"], id="auc-below"),
        pytest.param(replace(GOOD, auc=math.nan), ["minimumAuc"], id="auc-unknown-never-passes"),
        pytest.param(
            replace(GOOD, champion=replace(CHAMPION, lower=-0.0101)),
            ["championNonInferiority"],
            id="maybe-inferior",
        ),
        pytest.param(
            replace(GOOD, champion=replace(CHAMPION, lower=-0.01)), [], id="non-inferior-at-its-bound"
        ),
        pytest.param(
            replace(GOOD, champion=replace(CHAMPION, obstacle="its inputs x are gone")),
            ["championNonInferiority", "slices"],
            id="an-incomparable-champion-fails",
        ),
        pytest.param(
            replace(GOOD, champion=replace(CHAMPION, slices=(SliceComparison("shop=a", 500, 0.60, 0.66),))),
            ["slices"],
            id="a-worse-slice",
        ),
        pytest.param(
            replace(GOOD, champion=replace(CHAMPION, slices=(SliceComparison("shop=a", 499, 0.10, 0.90),))),
            [],
            id="a-small-slice-does-not-count",
        ),
        pytest.param(
            replace(
                GOOD, champion=replace(CHAMPION, slices=(SliceComparison("shop=a", 900, math.nan, 0.7),))
            ),
            ["slices"],
            id="a-slice-unknown-never-passes",
        ),
        pytest.param(replace(GOOD, calibration_error=0.11), ["calibration"], id="uncalibrated"),
        pytest.param(replace(GOOD, single_row_ms=5.1), ["latency"], id="slow"),
        pytest.param(
            replace(GOOD, auc_without={"weather": 0.54, "delays": 0.6}),
            ["missingFeatures/weather"],
            id="a-view-it-needs",
        ),
        pytest.param(
            replace(GOOD, auc=0.5, calibration_error=0.2),
            ["minimumAuc", "calibration"],
            id="every-failure-is-told",
        ),
    ],
)
def test_the_verdict(facts: Facts, failed: list[str]) -> None:
    checks = gate.judge(GATES, facts)
    assert [c.check for c in checks if not c.passed] == failed
    assert gate.passed(checks) is (not failed)


def test_a_failed_check_names_value_and_bound() -> None:
    check = next(c for c in gate.judge(GATES, replace(GOOD, auc=0.65)) if not c.passed)
    assert (check.value, check.bound) == (0.65, 0.7)
    assert gate.explain(check).startswith("minimumAuc: FAILED, value 0.6500, bound 0.7000")


def test_the_comparison_says_how_it_was_made_and_what_speaks_against_it() -> None:
    facts = replace(
        GOOD, champion=replace(CHAMPION, overlap="500 of these rows may be among its training rows")
    )
    detail = gate.judge(GATES, facts)[1].detail
    assert "DeLong, paired, one-sided, 6000 rows; difference +0.0040" in detail
    assert "500 of these rows may be among its training rows" in detail


def test_the_worst_slice_is_named() -> None:
    slices = (SliceComparison("shop=a", 900, 0.7, 0.71), SliceComparison("shop=b", 900, 0.6, 0.7))
    check = gate.judge(GATES, replace(GOOD, champion=replace(CHAMPION, slices=slices)))[2]
    assert check.value == pytest.approx(0.1)
    assert "shop=b (900 rows, 0.6000 against 0.7000)" in check.detail
