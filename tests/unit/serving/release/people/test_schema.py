"""The JSON schema says what the engine takes, and is one that an API server takes."""

from __future__ import annotations

import copy
import json

import jsonschema
import pytest
from release_stories import BANDIT, BLUE_GREEN, CANARY, EXPERIMENT, SHADOW

from serving.release import fields, spec
from serving.release.people import schema
from serving.release.release import STRATEGY_CLASSES, Check

DOCUMENTS = {
    "canary": CANARY,
    "shadow": SHADOW,
    "blueGreen": BLUE_GREEN,
    "experiment": EXPERIMENT,
    "bandit": BANDIT,
}


@pytest.fixture(scope="module")
def validator():
    found = schema.json_schema()
    jsonschema.Draft4Validator.check_schema(found)
    return jsonschema.Draft4Validator(found)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_what_the_engine_takes_and_writes_the_schema_takes(validator, kind):
    """Verify that neither a document nor its canonical form is refused by the schema alone."""
    validator.validate(DOCUMENTS[kind])
    validator.validate(spec.document(spec.parse(DOCUMENTS[kind])))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(("spec", "strategy", "type"), "cannary", id="unknown-strategy"),
        pytest.param(("spec", "strategy", "steps", 0, "weight"), 101, id="weight-over-100"),
        pytest.param(("spec", "strategy", "steps", 0, "minDuration"), "10 minutes", id="no-duration"),
        pytest.param(("spec", "checks", 0, "alpha"), 1, id="alpha-at-its-limit"),
        pytest.param(("spec", "checks", 0, "source"), "rumour", id="unknown-source"),
        pytest.param(("spec", "checks"), [], id="no-check"),
        pytest.param(("kind",), "Rollout", id="another-kind"),
    ],
)
def test_what_is_plainly_wrong_the_schema_refuses(validator, path, value):
    """Verify that an editor marks it and an API server never stores it."""
    document = copy.deepcopy(CANARY)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not validator.is_valid(document)


def test_every_field_of_every_dataclass_is_in_the_schema():
    """Verify that nothing that the engine reads is missing, so that an API server prunes nothing of it."""
    strategy = schema.spec()["properties"]["strategy"]["properties"]
    for of in STRATEGY_CLASSES.values():
        assert fields.forms(of).keys() <= strategy.keys()
    assert fields.forms(Check).keys() <= schema.spec()["properties"]["checks"]["items"]["properties"].keys()


def test_the_schema_is_structural():
    """Verify the rules of a CustomResourceDefinition: a type or a stated exception at every node, and no reference."""
    excused = {"x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"}

    def walk(node):
        assert "type" in node or excused & node.keys(), node
        assert "$ref" not in node
        for child in node.get("properties", {}).values():
            walk(child)
        for key in ("items", "additionalProperties"):
            if isinstance(node.get(key), dict):
                walk(node[key])

    walk(schema.release())
    assert json.loads(json.dumps(schema.release())) == schema.release()


def test_defaults_of_the_schema_change_no_document():
    """Verify that what an API server writes into a document is what the engine assumes without it."""

    def filled(node, value):
        if isinstance(value, dict):
            properties = node.get("properties", {})
            value = {name: filled(properties.get(name, {}), item) for name, item in value.items()}
            missing = {n: p["default"] for n, p in properties.items() if "default" in p and n not in value}
            return {**value, **missing}
        if isinstance(value, list):
            return [filled(node.get("items", {}), item) for item in value]
        return value

    for document in DOCUMENTS.values():
        assert spec.parse(filled(schema.release(), document)) == spec.parse(document)
