"""Served vectors against their recomputation."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from monitoring import skew
from monitoring.predictions import Prediction

INPUTS = (
    {"name": "delay", "view": "carrier_delays", "default": 1.0},
    {"name": "count", "view": "carrier_delays", "default": 0.0},
    {"name": "distance", "view": None, "categories": None, "default": 900.0},
    {"name": "carrier", "view": None, "categories": ["AA", "UA"], "default": None},
)
EXPECTED = pd.DataFrame({"delay": [4.5], "count": [3.0]})


def served(features: tuple[float, ...], request: dict[str, object]) -> Prediction:
    return Prediction(
        "r", "flights", "2", 0.0, {"carrier": "UA"}, request, features, 0.5, 1.0, "online", False
    )


@pytest.mark.parametrize(
    ("features", "request_", "mismatched"),
    [
        pytest.param((4.5, 3.0, 700.0, 1.0), {"distance": 700}, {}, id="same"),
        pytest.param((4.5 + 1e-9, 3.0, 700.0, 1.0), {"distance": 700}, {}, id="rounding"),
        pytest.param((4.6, 3.0, 700.0, 1.0), {"distance": 700}, {"delay": 1}, id="another-value"),
        pytest.param((math.nan, 3.0, 700.0, 1.0), {"distance": 700}, {"delay": 1}, id="missing"),
        pytest.param((4.5, 3.0 + 1e-7, 700.0, 1.0), {"distance": 700}, {"count": 1}, id="a-count-is-exact"),
        pytest.param((3.0, 4.5, 700.0, 1.0), {"distance": 700}, {"delay": 1, "count": 1}, id="permuted"),
        pytest.param((4.5, 3.0, 900.0, 1.0), {}, {}, id="default-of-an-absent-field"),
        pytest.param((4.5, 3.0, 700.0, 0.0), {"distance": 700}, {"carrier": 1}, id="another-category"),
    ],
)
def test_a_vector_that_differs_is_counted_with_its_inputs(
    features: tuple[float, ...], request_: dict[str, object], mismatched: dict[str, int]
) -> None:
    """Verify what counts as different, value by value."""
    found = skew.compare([served(features, request_)], EXPECTED, INPUTS)
    assert found.checked == 1
    assert found.mismatched == bool(mismatched)
    assert dict(found.by_input) == mismatched


def test_nothing_to_compare_is_no_finding() -> None:
    """Verify that no vectors are zero checked, not zero different of something."""
    assert skew.compare([], EXPECTED, INPUTS) == skew.Skew(0, 0, {})
