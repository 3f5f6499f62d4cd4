"""The chart's values: what it refuses, and that schema, values and what reads them know the same names."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from manifests.generate import CHART, render
from serving.release.cluster.serving_options import Scaling, ServingOptions
from tests.cluster.charts import SOURCES, helm
from tests.cluster.tools.build import BUILD_S
from windlass.errors import WindlassError

pytestmark = pytest.mark.timeout(2 * BUILD_S)

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize("name", SOURCES)
def test_lint_finds_nothing(name: str) -> None:
    """Verify that `helm lint --strict` is content with each values file."""
    values = [word for file in SOURCES[name] for word in ("--values", file)]
    done = helm("lint", "--strict", CHART, *values)
    assert done.returncode == 0 and "WARNING" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param("replicas=2", "'replicas' not allowed", id="unknown-at-the-top"),
        pytest.param(
            "operator.replica=2", "/operator': additional properties 'replica'", id="unknown-in-a-part"
        ),
        pytest.param("collector.volume.sice=1Gi", "'sice' not allowed", id="unknown-deep"),
        pytest.param("operator.image.name=a", "'name' not allowed", id="unknown-in-an-image"),
        pytest.param("operator.resources.request.cpu=1", "'request' not allowed", id="unknown-in-resources"),
        pytest.param("operator.serving.storag=s3://a", "'storag' not allowed", id="unknown-in-serving"),
        pytest.param(
            "operator.serving.models.flights.scalin=1", "'scalin' not allowed", id="unknown-of-a-model"
        ),
        pytest.param("operator.affinity.podAfinity=a", "'podAfinity' not allowed", id="unknown-in-affinity"),
        pytest.param("operator.replicas=two", "got string, want integer", id="text-for-a-number"),
        pytest.param("operator.replicas=0", "minimum: got 0, want 1", id="number-too-small"),
        pytest.param("operator.lookEvery=often", "'often' does not match pattern", id="no-duration"),
        pytest.param("collector.enabled=yes", "got string, want boolean", id="text-for-a-switch"),
        pytest.param("collector.volume.size=large", "'large' does not match pattern", id="no-quantity"),
        pytest.param("collector.volume.accessMode=ReadWriteTwice", "must be one of", id="no-access-mode"),
        pytest.param("imagePullSecrets=pull", "got string, want array", id="text-for-a-list"),
        pytest.param("operator.image.tag=latest", "'not' failed", id="latest"),
        pytest.param("operator.image.digest=abc", "'abc' does not match pattern", id="no-digest"),
        pytest.param("mlflow.url=mlflow:5000", "'mlflow:5000' does not match pattern", id="no-address"),
        pytest.param("analysis.workloads[0].name=flights", "missing property 'schedule'", id="missing"),
        pytest.param("features.workloads[0].name=flights", "missing properties", id="missing-of-features"),
        pytest.param("features.workloads[0].until=April", "'April' does not match pattern", id="no-time"),
        pytest.param("models.verifyKey=secret", "does not match pattern", id="no-public-key"),
        pytest.param(
            r"commonLabels.app\.kubernetes\.io/name=a",
            "/commonLabels/app.kubernetes.io~1name': false schema",
            id="label-of-ours",
        ),
        pytest.param("commonLabels.team=a b", "'a b' does not match pattern", id="no-label"),
        pytest.param(
            "networkPolicies.apiServer.cidrs={10.0.0.0/33}", "'10.0.0.0/33' does not match", id="no-range"
        ),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(setting: str, said: str) -> None:
    """Verify that the schema knows every value by name and type, and says which one is wrong."""
    done = helm("template", "windlass", CHART, "--set", setting)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert said in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(["requireDigests=true"], "windlass/operator has no digest", id="tag-alone"),
        pytest.param(
            ["redis.enabled=true", "redis.passwordSecret=a"],
            "onlineStore.existingSecret must name a Secret",
            id="password-without-address",
        ),
        pytest.param(
            ["onlineStore.url=redis://:secret@redis:6379/0"],
            "onlineStore.url holds a password",
            id="secret-value",
        ),
        pytest.param(["featureServer.enabled=true"], "needs an online store", id="features-of-nowhere"),
        pytest.param(
            ["featureServer.enabled=true", "redis.enabled=true"],
            "needs featureServer.registry",
            id="no-registry",
        ),
        pytest.param(
            [
                "features.workloads[0].name=a",
                "features.workloads[0].schedule=@hourly",
                "features.workloads[0].staleAfter=3h",
            ],
            "features.workloads needs an online store",
            id="fresh-nowhere",
        ),
        pytest.param(["models.volume.name="], "nobody says where bundles lie", id="no-storage"),
        pytest.param(
            ["fullnameOverride=a-name-of-thirty-five-characters-abc"],
            "CronJob a-name-of-thirty-five-characters-abc-analysis-flights would have a name of 53 characters, "
            "and Kubernetes takes 52",
            id="name-of-a-cron-job",
        ),
        pytest.param(
            [
                "redis.enabled=true",
                "features.workloads[0].name=a-workload-of-thirty-two-letters",
                "features.workloads[0].schedule=@hourly",
                "features.workloads[0].staleAfter=3h",
            ],
            "windlass-materialize-a-workload-of-thirty-two-letters would have a name of 53 characters",
            id="name-of-features-cron-job",
        ),
        pytest.param(
            [
                "redis.enabled=true",
                "features.workloads[0].name=a_workload_of_thirty_two_letters",
                "features.workloads[0].schedule=@hourly",
                "features.workloads[0].staleAfter=3h",
            ],
            "windlass-materialize-a-workload-of-thirty-two-letters would have a name of 53 characters",
            id="name-of-features-cron-job-with-underscores",
        ),
        pytest.param(
            [
                *(f"analysis.workloads[{index}].name={name}" for index, name in enumerate(("a_b", "a-b"))),
                *(f"analysis.workloads[{index}].schedule=@hourly" for index in range(2)),
            ],
            "the workloads a_b and a-b would both have the CronJob windlass-analysis-a-b",
            id="two-of-one-name",
        ),
        pytest.param(
            ["collector.volume.accessMode=ReadWriteOncePod"],
            "collector.volume.accessMode ReadWriteOncePod lets no pod but the collector's mount its store",
            id="store-of-one-pod",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(settings: list[str], said: str) -> None:
    """Verify that the message names the value and what to do."""
    with pytest.raises(WindlassError, match=re.escape(said)):
        render(settings=settings)


def _objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for name, under in schema.items():
            yield from _objects(under, f"{path}/{name}")
    elif isinstance(schema, list):
        for index, under in enumerate(schema):
            yield from _objects(under, f"{path}/{index}")


def test_every_object_of_the_schema_is_closed() -> None:
    """Verify that nothing may stand anywhere that is not known; a map of names says what its values are."""
    found = dict(_objects(SCHEMA))
    assert len(found) > 60
    for path, schema in found.items():
        if path == "/properties/global":  # helm's own
            assert schema["maxProperties"] == 0
            continue
        closed = schema.get("additionalProperties")
        assert closed is False or (isinstance(closed, dict) and "propertyNames" in schema), path


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _compared(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
    known = _resolved(schema).get("properties")
    if known is None:
        return
    for name, value in values.items():
        assert name in known, f"{path}.{name} is not in the schema"
        if isinstance(value, dict):
            _compared(value, known[name], f"{path}.{name}")
    # what a container or affinity may say is Kubernetes', and has no default here
    optional = (
        {"requests", "limits"} | set(_serving_names(ServingOptions)) | {"podAffinity", "podAntiAffinity"}
    )
    optional |= {"nodeAffinity"}
    assert {*known} - {*values} <= optional | ({"global"} if not path else set()), path


def test_schema_and_values_know_the_same_names() -> None:
    """Verify that a value with a default is in the schema, and the other way round."""
    _compared(VALUES, SCHEMA, "")


def _serving_names(kind: Any) -> dict[str, str]:
    def camel(name: str) -> str:
        first, *others = name.split("_")
        return first + "".join(map(str.title, others))

    return {camel(field.name): field.name for field in dataclasses.fields(kind)}


def test_the_schema_knows_how_versions_are_served() -> None:
    """Verify that what the operator reads of ServingOptions is what the chart lets through."""
    known = SCHEMA["properties"]["operator"]["properties"]["serving"]["properties"]
    assert set(known) == set(_serving_names(ServingOptions))
    assert set(known["scaling"]["properties"]) == set(_serving_names(Scaling))
