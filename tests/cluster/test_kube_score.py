"""kube-score finds nothing in what the chart renders, but what kube_score.yaml gives a reason for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.generate import render
from tests.cluster.charts import SOURCES
from tests.cluster.tools.build import BUILD_S, tool

pytestmark = pytest.mark.timeout(2 * BUILD_S)

EXCEPTIONS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "kube_score.yaml").read_text())
#: kube-score's grades: 1 critical, 5 warning, 10 fine.
FINE = 7


@dataclass(frozen=True)
class Finding:
    """One comment on one object."""

    check: str
    name: str
    message: str


def findings(text: str) -> Iterator[Finding]:
    """What kube-score says against the objects of a text."""
    command: list[str | Path] = [
        tool("kube-score"),
        "score",
        "--kubernetes-version",
        "v1.34",
        "-o",
        "json",
        "-",
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    for scored in json.loads(done.stdout):
        for check in scored["checks"]:
            if check["skipped"] or check["grade"] >= FINE:
                continue
            for comment in check["comments"] or [{"summary": ""}]:
                yield Finding(check["check"]["id"], scored["object_meta"]["name"], comment["summary"])


def excused(finding: Finding) -> int | None:
    """The exception's place in the list, None where there is none."""
    for index, known in enumerate(EXCEPTIONS):
        named = "*" in known["objects"] or finding.name in known["objects"]
        if known["check"] == finding.check and named and known.get("about", "") in finding.message:
            return index
    return None


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    texts = [render(*files, hooks=True) for files in SOURCES.values()]
    return [finding for text in texts for finding in findings(text)]


def test_whatever_is_found_has_a_reason(found: list[Finding]) -> None:
    """Verify that nothing is left over."""
    assert {finding for finding in found if excused(finding) is None} == set()


def test_every_reason_is_needed(found: list[Finding]) -> None:
    """Verify that no exception outlives what it excused."""
    assert {excused(finding) for finding in found} >= set(range(len(EXCEPTIONS)))
    assert all(len(exception["because"]) > 40 for exception in EXCEPTIONS)


READ_ONLY = "readOnlyRootFilesystem: "


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        pytest.param(
            READ_ONLY + "true",
            READ_ONLY + "false",
            "container-security-context-readonlyrootfilesystem",
            id="root",
        ),
        pytest.param("memory: 512Mi", "cpu: 1", "container-resources", id="memory"),
        pytest.param("operator:0.1.0", "operator:latest", "container-image-tag", id="latest"),
    ],
)
def test_it_would_find_what_is_wrong(old: str, new: str, check: str) -> None:
    """Verify that being found fine means something."""
    text = render(hooks=True)
    assert old in text
    left = {finding.check for finding in findings(text.replace(old, new)) if excused(finding) is None}
    assert left == {check}
