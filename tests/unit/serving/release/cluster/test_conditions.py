"""What is made of a controller's conditions, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from serving.release.cluster import conditions

YES = {"Accepted": "True", "ResolvedRefs": "True"}


def route(said: dict[str, str], observed: int = 3, **parent: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "prod", "generation": 3},
        "status": {
            "parents": [
                {
                    "parentRef": {"name": "public", "namespace": "edge", **parent},
                    "conditions": [
                        {
                            "type": t,
                            "status": s,
                            "observedGeneration": observed,
                            "reason": "R",
                            "message": "M",
                        }
                        for t, s in said.items()
                    ],
                }
            ]
        },
    }


@pytest.mark.parametrize(
    ("live", "accepted", "reason"),
    [
        pytest.param(route(YES), True, "", id="yes"),
        pytest.param(route(YES, observed=4), True, "", id="newer-generation"),
        pytest.param(route(YES, observed=2), None, "Accepted and ResolvedRefs of generation 3", id="old-yes"),
        pytest.param(
            route({**YES, "ResolvedRefs": "False"}), False, "ResolvedRefs is False, R: M", id="no-service"
        ),
        pytest.param(route({**YES, "ResolvedRefs": "False"}, observed=2), None, "has not said", id="old-no"),
        pytest.param(route({"Accepted": "True"}), None, "ResolvedRefs of generation 3", id="half"),
        pytest.param(route({**YES, "Accepted": "Unknown"}), None, "Accepted of generation 3", id="unknown"),
        pytest.param(
            route(YES, name="internal"), None, "Gateway edge/public has not said", id="another-gateway"
        ),
        pytest.param(route(YES, namespace="test"), None, "has not said", id="another-namespace"),
        pytest.param(
            {"metadata": {"namespace": "prod", "generation": 1}}, None, "has not said", id="no-status"
        ),
    ],
)
def test_a_word_counts_for_its_generation(live: dict[str, Any], accepted: bool | None, reason: str) -> None:
    """Verify that only this Gateway's word on this very generation counts, and that silence is not yes."""
    word = conditions.of_route(live, "public", "edge", wanted=("Accepted", "ResolvedRefs"))
    assert word.accepted is accepted and reason in word.reason
