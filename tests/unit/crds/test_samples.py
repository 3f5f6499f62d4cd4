"""The samples are what lint takes, the invalid documents what it refuses: the API server's side is in tests/cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serving.release import spec
from serving.release.people import lint
from serving.release.release import STRATEGIES, strategy_name
from serving.release.rules import SUPPORTED
from windlass import retrain_policy
from windlass.errors import UsageError

ROOT = Path(__file__).parents[3]
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))
INVALID = sorted((ROOT / "tests" / "cluster" / "invalid").glob("*.yaml"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_lint_takes_each_sample(path):
    """Verify that a sample can be meant, and that it says in its first line what it shows."""
    assert path.read_text().startswith("# ")
    document = yaml.safe_load(path.read_text())
    if document["kind"] == "Release":
        assert lint.file(path).faults == ()
    else:
        assert retrain_policy.parse(document)[0] == "flights"


def test_the_samples_show_every_strategy_and_backend_of_a_cluster():
    """Verify that no strategy, and nothing that a backend can do, is left without an example."""
    documents = [yaml.safe_load(path.read_text()) for path in SAMPLES]
    releases = [spec.parse(document) for document in documents if document["kind"] == "Release"]
    shown = {(release.backend, strategy_name(release.strategy)) for release in releases}
    assert shown == {
        (backend, kind) for backend, kinds in SUPPORTED.items() if backend != "local" for kind in kinds
    }
    assert {kind for _, kind in shown} == set(STRATEGIES)
    assert len({release.name for release in releases}) == len(releases)


def test_there_are_many_ways_to_be_wrong():
    assert len(INVALID) >= 30


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_lint_refuses_what_an_api_server_refuses(path):
    """Verify that both say no: a document that is refused by one of them alone would surprise somebody."""
    document = yaml.safe_load(path.read_text())
    parse = spec.parse if document["kind"] == "Release" else retrain_policy.parse
    with pytest.raises(UsageError):
        parse(document)
