"""What is asked: the null and the distance that follow from a plan, what is refused, and that evidence is plain."""

from __future__ import annotations

import dataclasses
import json

import pytest

from serving.release.statistics import comparison
from serving.release.statistics.design import START, Design, Evidence
from serving.release.statistics.mixture import BROAD, PLANNED
from serving.release.statistics.moments import Moments


@pytest.mark.parametrize(
    ("direction", "effect", "margin", "null", "distance", "mixture"),
    [
        pytest.param("increase", 0.1, None, 0.0, 0.1, PLANNED, id="better"),
        pytest.param("increase", None, None, 0.0, 0.1, BROAD, id="better-without-a-plan"),
        pytest.param("increase", None, 0.05, -0.05, 0.05, PLANNED, id="not-much-less"),
        pytest.param("increase", None, 0.9, -0.9, 0.9, PLANNED, id="not-nearly-everything"),
        pytest.param("decrease", None, 0.05, 0.05, 0.05, PLANNED, id="not-much-more"),
        pytest.param("decrease", 0.02, 0.05, 0.05, 0.07, PLANNED, id="a-margin-and-an-effect"),
    ],
)
def test_the_lift_under_test_and_the_bets(direction, effect, margin, null, distance, mixture):
    design = Design("binary", direction, 0.05, effect, margin)
    assert (design.null, design.distance, design.mixture) == (null, pytest.approx(distance), mixture)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"alpha": 0.0}, "alpha 0.0 is not between 0 and 1", id="alpha-0"),
        pytest.param({"alpha": 1.0}, "alpha 1.0 is not between 0 and 1", id="alpha-1"),
        pytest.param({"minimum_detectable_effect": 0.0}, "effect 0.0 is not a positive lift", id="no-effect"),
        pytest.param({"minimum_detectable_effect": 10.0}, "0.05 means 5 %", id="percents"),
        pytest.param({"margin": -0.1}, "margin -0.1 is not a positive lift", id="signed-margin"),
        pytest.param({"margin": 1.0}, "tolerates the loss of everything", id="margin-of-everything"),
    ],
)
def test_a_design_that_cannot_be_meant_is_refused(changes, said):
    told = {"kind": "binary", "direction": "increase", "alpha": 0.05, "minimum_detectable_effect": 0.1}
    with pytest.raises(ValueError, match=said):
        Design(**(told | changes))


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_evidence_comes_back_from_json_exactly(kind):
    """Verify that a journal's copy goes on as the original would."""
    design = Design(kind, "increase", 0.05, 0.1)
    before = comparison.add(design, START, Moments(210, 17, 17), Moments(190, 11, 11))
    back = Evidence.of(json.loads(json.dumps(dataclasses.asdict(before))))
    assert back == before
    later = (Moments(333, 31, 31), Moments(345, 20, 20))
    assert comparison.add(design, back, *later) == comparison.add(design, before, *later)
