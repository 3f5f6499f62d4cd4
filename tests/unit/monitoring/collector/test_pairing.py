"""Halves of CloudEvents become predictions."""

from __future__ import annotations

from typing import Any

import pytest
from event_store import NOON, request, response

from monitoring.collector.pairing import pair


@pytest.mark.parametrize(
    ("held", "new"),
    [
        pytest.param([], [request("a"), response("a")], id="in-order"),
        pytest.param([], [response("a"), request("a")], id="response-first"),
        pytest.param([request("a")], [response("a")], id="a-consolidation-apart"),
        pytest.param([response("a")], [request("a")], id="response-held"),
    ],
)
def test_two_halves_make_a_prediction(held: list[Any], new: list[Any]) -> None:
    """Verify that order and time between them do not matter: time and vector of the one, answer of the other."""
    found = pair(new, held, expired=NOON - 60, most=10)
    assert found.held == []
    (row,) = found.rows
    assert (row["request_id"], row["at"], row["features"], row["score"], row["version"]) == (
        "a", NOON, [1.0, 2.0], 0.25, "3",
    )  # fmt: skip
    assert "half" not in row


def test_rows_of_one_request_have_ids_of_their_own() -> None:
    """Verify that rows are joined by position."""
    new = [request("a", rows=[{"features": [1.0]}, {"features": [2.0]}]), response("a", scores=[0.1, 0.2])]
    rows = pair(new, [], expired=0, most=10).rows
    assert [(r["request_id"], r["features"], r["score"]) for r in rows] == [
        ("a/0", [1.0], 0.1),
        ("a/1", [2.0], 0.2),
    ]


def test_the_same_id_of_another_source_is_another_prediction() -> None:
    """Verify that a mirrored request is not joined with the answer of another version."""
    found = pair([request("a"), response("a", source="/other")], [], expired=0, most=10)
    assert found.rows == []
    assert len(found.held) == 2


@pytest.mark.parametrize(
    ("half", "kind", "score"),
    [
        pytest.param(request("a"), "request", None, id="no-answer-came"),
        pytest.param(response("a"), "response", 0.25, id="no-request-came"),
    ],
)
def test_a_half_that_waited_in_vain_is_kept_as_what_it_is(half: Any, kind: str, score: float | None) -> None:
    """Verify that nothing acknowledged is thrown away for want of its partner."""
    (row,) = pair([half], [], expired=NOON + 1, most=10).rows
    assert (row["half"], row["score"]) == (kind, score)


def test_no_more_halves_wait_than_may() -> None:
    """Verify that the oldest make room."""
    halves = [request(str(n), received=NOON + n) for n in range(5)]
    found = pair(halves, [], expired=0, most=2)
    assert [half["id"] for half in found.held] == ["3", "4"]
    assert [row["request_id"] for row in found.rows] == ["0", "1", "2"]
