"""What callers sent: forgotten fields, unknown ones, new categories; the vector hides all three."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monitoring.analysis import requests
from monitoring.verdict import Verdict
from windlass.contract import RequestField

FIELDS = (RequestField("distance"), RequestField("carrier", "string", ("AA", "UA")))
N = 1000


def columns(**changed: Any) -> dict[str, Any]:
    found = {
        "entity.origin": np.array(["EWR"] * N, dtype=object),
        "request.distance": np.arange(N, dtype=float),
        "request.carrier": np.array(["AA", "UA"] * (N // 2), dtype=object),
    }
    return found | changed


def with_share(share: float, value: Any) -> np.ndarray:
    values = np.array(["AA"] * N, dtype=object)
    values[: int(share * N)] = value
    return values


def judged(found: dict[str, Any]) -> requests.Schema:
    return requests.judge(requests.count(found, FIELDS, ("origin",)))


@pytest.mark.parametrize(
    ("changed", "verdict", "faults"),
    [
        pytest.param({}, "PASS", [], id="as-stated"),
        pytest.param(
            {"request.carrier": with_share(0.05, "F9")},
            "FAIL",
            [("carrier", "category")],
            id="new-category-5-%",
        ),
        pytest.param({"request.carrier": with_share(0.01, "F9")}, "PASS", [], id="new-category-1-%-is-noise"),
        pytest.param(
            {"request.carrier": with_share(0.2, None)},
            "FAIL",
            [("carrier", "schema")],
            id="forgotten-in-a-fifth",
        ),
        pytest.param(
            {"request.distance": np.full(N, np.nan)}, "FAIL", [("distance", "schema")], id="never-sent"
        ),
        pytest.param({"request.price": np.ones(N)}, "FAIL", [("price", "schema")], id="sent-and-not-known"),
        pytest.param(
            {"entity.origin": with_share(0.3, None)}, "FAIL", [("origin", "schema")], id="entity-missing"
        ),
    ],
)
def test_what_is_sent_is_held_to_what_the_model_takes(
    changed: dict[str, Any], verdict: Verdict, faults: list[tuple[str, str]]
) -> None:
    found = judged(columns(**changed))
    assert found.verdict == verdict
    assert [(f.column, f.check) for f in found.faults] == faults


def test_a_field_that_is_an_entity_too_may_be_sent_as_either() -> None:
    found = columns()
    found["entity.carrier"] = found.pop("request.carrier")
    assert judged(found).verdict == "PASS"


def test_matrices_name_nothing_and_are_not_held_to_names() -> None:
    """Verify that rows without any name are no forgotten fields, and no pass either."""
    empty = {name: np.array([None] * N, dtype=object) for name in columns()}
    found = judged(empty)
    assert (found.verdict, found.rows, found.faults) == ("INCONCLUSIVE", 0, ())


def test_new_values_are_counted_by_name() -> None:
    sent = requests.count(columns(**{"request.carrier": with_share(0.1, "F9")}), FIELDS, ("origin",))
    assert sent.new_categories == {"carrier": {"F9": 100}}
    assert sent.rows == N


def test_vectors_of_another_width_fail() -> None:
    found = requests.judge(requests.count(columns(), FIELDS, ("origin",), wrong_width=10))
    assert (found.verdict, found.faults[0].check) == ("FAIL", "schema")
