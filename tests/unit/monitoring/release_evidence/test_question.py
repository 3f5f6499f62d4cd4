"""What is no question for evidence."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.release_evidence import question
from serving.release.reading import SpecError


def document(*, champion: str = "1", **fields: Any) -> dict[str, Any]:
    spec = {
        "model": "m",
        "candidate": "2",
        "champion": "1",
        "backend": "gateway",
        "strategy": {"type": "canary", "steps": [{"weight": 50}]},
        "checks": [
            {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 2}
        ],
        **fields,
    }
    return {
        "release": {"kind": "Release", "metadata": {"name": "r"}, "spec": spec},
        "champion": champion,
        "since": "2023-11-15T12:00:00Z",
    }


@pytest.mark.parametrize("name", ["../../../elsewhere/deep", "..", "/etc", ".1-abcdefgh", "a/b", "1\n", "é"])
@pytest.mark.parametrize(
    ("field", "path"),
    [(None, "champion"), ("model", "release.spec.model"), ("candidate", "release.spec.candidate")],
)
def test_no_name_leads_out_of_its_folder(name: str, field: str | None, path: str) -> None:
    """Verify it of all three that a bundle's folder is found by."""
    asked = document(champion=name) if field is None else document(**{field: name})
    with pytest.raises(SpecError) as refused:
        question.read(asked, now=1_800_000_000)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_a_version_of_any_usual_name_is_asked_for() -> None:
    assert question.read(document(champion="2024-05.1_b"), now=1_800_000_000).champion == "2024-05.1_b"
