"""The mixture of bets: its error, its boundary, and a closed form that it must agree with."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from serving.release.statistics import mixture
from serving.release.statistics.mixture import BROAD, PLANNED, Mixture


@pytest.mark.parametrize("bets", [pytest.param(PLANNED, id="planned"), pytest.param(BROAD, id="broad")])
def test_the_wealth_is_spread_completely(bets):
    assert math.fsum(bets.weights) == pytest.approx(1)
    assert len(bets.multiples) == len(bets.weights)


@pytest.mark.parametrize("bets", [pytest.param(PLANNED, id="planned"), pytest.param(BROAD, id="broad")])
@pytest.mark.parametrize("information", [0.01, 1.0, 40.0, 3000.0])
def test_at_the_boundary_the_evidence_is_the_threshold(bets, information):
    z = mixture.boundary(information, 0.7, math.log(40), bets)
    score = z * math.sqrt(information)
    assert mixture.log_evidence(score, information, 0.7, bets) == pytest.approx(math.log(40))


def test_a_fine_half_normal_mixture_is_the_closed_form():
    """Verify against Howard et al. (2021), proposition of the one-sided normal mixture, in closed form.

    The mixture over a half-normal with scale 1 has log evidence
    log(2 / sqrt(1 + t)) + x^2 / (2 (1 + t)) + log Phi(x / sqrt(1 + t)).
    """
    edges = np.linspace(0, 8, 4001)
    middles = (edges[:-1] + edges[1:]) / 2
    weights = 2 * (special.ndtr(edges[1:]) - special.ndtr(edges[:-1]))
    fine = Mixture(tuple(middles), tuple(weights / weights.sum()))
    for score, time in ((0.0, 1.0), (5.0, 4.0), (-3.0, 10.0), (40.0, 100.0)):
        closed = (
            math.log(2 / math.sqrt(1 + time))
            + score**2 / (2 * (1 + time))
            + special.log_ndtr(score / math.sqrt(1 + time))
        )
        assert mixture.log_evidence(score, time, 1.0, fine) == pytest.approx(closed, abs=1e-5)


@pytest.mark.parametrize("bets", [pytest.param(PLANNED, id="planned"), pytest.param(BROAD, id="broad")])
def test_without_an_effect_the_threshold_is_seldom_reached_at_any_look(bets):
    """Verify Ville's bound on 2,000 walks with looks over four decades of information, at 5 %."""
    times = np.geomspace(0.05, 500, 600)
    steps = np.diff(times, prepend=0.0)
    rng = np.random.default_rng(5)
    scores = np.cumsum(rng.normal(size=(2000, 600)) * np.sqrt(steps), axis=1)
    reached = (mixture.log_evidence(scores, times, 1.0, bets) >= math.log(20)).any(axis=1)
    assert 0.02 <= reached.mean() <= 0.05


def test_arrays_give_what_numbers_give():
    scores, times = np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    together = mixture.log_evidence(scores, times, 0.5, PLANNED)
    pairs = zip(scores.flat, times.flat, strict=True)
    alone = [mixture.log_evidence(score, time, 0.5, PLANNED) for score, time in pairs]
    assert together.ravel().tolist() == pytest.approx(alone)


@pytest.mark.parametrize(
    ("information", "effect"),
    [pytest.param(0.0, 1.0, id="no-information"), pytest.param(10.0, 0.0, id="no-effect")],
)
def test_where_nothing_can_be_shown_the_boundary_is_out_of_reach(information, effect):
    assert mixture.boundary(information, effect, 3.0, PLANNED) == math.inf
