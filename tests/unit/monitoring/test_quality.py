"""Broken data is told from a world that moved."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring import quality
from monitoring.reference import Reference, build


@pytest.fixture
def january() -> Reference:
    r = np.random.default_rng(0)
    return build({"temperature": r.normal(35, 9, 3000), "delay": r.exponential(10, 3000)})


def window(n: int = 1000) -> NDArray[np.float64]:
    r = np.random.default_rng(1)
    return np.column_stack((r.normal(35, 9, n), r.exponential(10, n)))


def test_data_as_at_training_passes(january: Reference) -> None:
    assert quality.measure(january, window()).verdict == "PASS"


def test_a_summer_is_no_fault(january: Reference) -> None:
    july = window()
    july[:, 0] += 45
    assert quality.measure(january, july).verdict == "PASS"


def test_missing_values_fail_by_name(january: Reference) -> None:
    broken = window()
    broken[::5, 1] = np.nan
    found = quality.measure(january, broken)
    assert found.verdict == "FAIL"
    assert [f.feature for f in found.features if f.failed] == ["delay"]
    assert "20.0% missing" in found.reason


def test_a_swapped_unit_fails_by_name(january: Reference) -> None:
    broken = window()
    broken[:, 1] *= 60
    found = quality.measure(january, broken)
    assert [f.feature for f in found.features if f.failed] == ["delay"]


def test_infinite_values_fail(january: Reference) -> None:
    broken = window()
    broken[::10, 0] = np.inf
    assert quality.measure(january, broken).verdict == "FAIL"


def test_a_few_odd_rows_and_few_rows_at_all_prove_nothing(january: Reference) -> None:
    odd = window()
    odd[:5, 1] = 1e9
    assert quality.measure(january, odd).verdict == "PASS"
    assert quality.measure(january, window(20)).verdict == "INCONCLUSIVE"
