"""The definitions hold every field that the documents' readers know, with its limit, its default and its rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from serving.release import fields
from serving.release.cluster import naming
from serving.release.cluster.kinds import RELEASE, RELEASE_JOURNAL, RETRAIN_POLICY
from serving.release.people import schema
from serving.release.release import STRATEGY_CLASSES, Check, Gateway
from windlass import retrain_policy as policy_document
from windlass.contract import RetrainPolicy
from windlass.crds import files, release, release_journal, release_rules, retrain_policy
from windlass.crds.rule import VALIDATIONS
from windlass.errors import UsageError

Schema = dict[str, Any]

CRDS = {
    "Release": release.crd(),
    "RetrainPolicy": retrain_policy.crd(),
    "ReleaseJournal": release_journal.crd(),
}


def whole(crd: dict[str, Any]) -> Schema:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def below(node: Schema, at: str = "") -> Iterator[tuple[str, Schema]]:
    """Each place of a schema, with its path."""
    yield at, node
    for name, child in node.get("properties", {}).items():
        yield from below(child, f"{at}.{name}" if at else name)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from below(node[key], f"{at}[]")


def test_the_committed_files_are_the_generated_ones(project):
    """Verify that nobody changed one without the other: `make manifests` writes them."""
    for name, text in files.rendered().items():
        assert (project / "manifests" / name).read_text() == text
    found = {f"crds/{path.name}" for path in (project / "manifests" / "crds").iterdir()}
    assert found == files.rendered().keys()


@pytest.mark.parametrize("text", files.rendered().values(), ids=list(files.rendered()))
def test_a_file_is_plain_yaml(text):
    """Verify that a client that knows no anchors reads it, and that it is what was made."""
    assert yaml.safe_load(text) in CRDS.values()
    assert "&id" not in text
    assert "*id" not in text


@pytest.mark.parametrize(
    ("kind", "known"),
    [("Release", RELEASE), ("RetrainPolicy", RETRAIN_POLICY), ("ReleaseJournal", RELEASE_JOURNAL)],
)
def test_the_operator_calls_them_by_these_names(kind, known):
    """Verify that the operator's own table and the definitions speak of the same resources."""
    spec = CRDS[kind]["spec"]
    assert (spec["group"], spec["versions"][0]["name"]) == (known.group, known.version)
    assert (spec["names"]["plural"], spec["names"]["kind"]) == (known.plural, known.kind)
    assert spec["scope"] == "Namespaced"


@pytest.mark.parametrize("kind", CRDS)
def test_every_place_is_structural(kind):
    """Verify that an API server takes it as structural: a type, or a stated exception, everywhere."""
    excused = {"x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"}
    for at, node in below(whole(CRDS[kind])):
        assert "type" in node or excused & node.keys(), at
        assert not {"$ref", "definitions", "dependencies"} & node.keys(), at


@pytest.mark.parametrize("kind", ["Release", "RetrainPolicy"])
def test_everything_a_rule_looks_at_has_a_limit(kind):
    """Verify that no text, list or mapping of a spec may be as long as a request: rules would cost too much."""
    for at, node in below(whole(CRDS[kind])["properties"]["spec"]):
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, at
        if node.get("x-kubernetes-int-or-string"):
            assert "maxLength" in node, at
        if node.get("type") == "array":
            assert "maxItems" in node, at
        if isinstance(node.get("additionalProperties"), dict):
            assert "maxProperties" in node, at


@pytest.mark.parametrize("kind", ["Release", "RetrainPolicy"])
def test_every_duration_ends(kind):
    """Verify that a duration beyond every calendar is refused wherever one is written."""
    found = [
        node
        for _, node in below(whole(CRDS[kind])["properties"]["spec"])
        if node.get("pattern") == schema.duration()["pattern"]
    ]
    assert len(found) > 1
    for node in found:
        assert any("36500d" in rule["message"] for rule in node[VALIDATIONS])


@pytest.mark.parametrize("kind", ["Release", "RetrainPolicy"])
def test_every_rule_tells_a_person_what_to_do(kind):
    """Verify that no rule leaves it to CEL to explain itself, and that no two in one place say the same."""
    count = 0
    for at, node in below(whole(CRDS[kind])["properties"]["spec"]):
        messages = [(rule["message"], rule.get("fieldPath")) for rule in node.get(VALIDATIONS, [])]
        assert len(set(messages)) == len(messages), at
        assert all(len(message) > 20 for message, _ in messages), at
        count += len(messages)
    assert count > 60


def test_nothing_that_is_read_is_missing():
    """Verify that an API server prunes nothing that the release's reader knows."""
    spec = release.spec()["properties"]
    for of in STRATEGY_CLASSES.values():
        assert fields.forms(of).keys() <= spec["strategy"]["properties"].keys()
    assert fields.forms(Check).keys() <= spec["checks"]["items"]["properties"].keys()
    assert fields.forms(Gateway).keys() <= spec["gateway"]["properties"].keys()


def test_a_smoke_request_needs_no_body():
    """Verify that the schema asks for no more than the reader: without a body the model's own example is sent."""
    item = release.spec()["properties"]["strategy"]["properties"]["smoke"]["items"]
    assert "body" not in item.get("required", [])


def test_a_policys_defaults_are_those_of_its_class():
    """Verify that what an API server writes into a policy is what is assumed without it."""
    spec = whole(CRDS["RetrainPolicy"])["properties"]["spec"]["properties"]
    written = {name: node["default"] for name, node in spec.items() if "default" in node}
    written["budget"] = {"perDay": spec["budget"]["properties"]["perDay"]["default"]}
    document = {"kind": "RetrainPolicy", "spec": {"workload": "flights", **written}}
    assert policy_document.parse(document) == ("flights", RetrainPolicy())


def test_a_policys_release_is_left_as_it_is_written():
    """Verify that no default is written into a Release that is not complete yet."""
    found = whole(CRDS["RetrainPolicy"])["properties"]["spec"]["properties"]["release"]
    assert [at for at, node in below(found) if "default" in node] == []


@pytest.mark.parametrize(
    ("model", "version", "fits"),
    [
        pytest.param("m" * 44, "1234567", True, id="longest-model"),
        pytest.param("m", "v" * 50, True, id="longest-version"),
        pytest.param("m" * 45, "1", False, id="model-too-long-for-its-route"),
    ],
)
def test_what_the_rules_let_through_names_services(model, version, fits):
    """Verify that the limits of the rules are those of the names that are made."""
    within = (
        len(model) <= release_rules.LONGEST_MODEL
        and len(model) + len(version) <= release_rules.LONGEST_TOGETHER
    )
    assert within == fits
    if fits:
        naming.route(model)
        assert len(naming.predictor(model, naming.canary(version))) <= 63
    else:
        with pytest.raises(UsageError, match="cannot name a Service"):
            naming.route(model)
