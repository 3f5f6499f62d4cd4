"""Serving options: what they mean, and that what cannot be meant is refused with path, value and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.release.cluster import serving_options
from serving.release.cluster.autoscaling import target
from serving.release.fields import forms
from serving.release.reading import SpecError
from windlass.errors import UsageError

STORAGE = "s3://models/{model}/{version}"


def test_a_model_may_be_served_differently() -> None:
    """Verify that an exception changes what it states and keeps the rest, nested fields too."""
    options = serving_options.loads(
        """
        storage: s3://models/{model}/{version}
        workers: 2
        scaling: {minReplicas: 3, maxReplicas: 9}
        models:
          flights: {scaling: {maxReplicas: 12}, online: {secret: redis}}
        """
    )
    flights, other = options.of("flights"), options.of("churn")
    assert (flights.scaling.min_replicas, flights.scaling.max_replicas, flights.workers) == (3, 12, 2)
    assert (other.scaling.max_replicas, other.online) == (9, None)
    assert flights.online == serving_options.SecretKey("redis", "url")
    # without the slash KServe would fetch version 120 with it
    assert flights.storage_uri("flights", "12") == "s3://models/flights/12/"


@pytest.mark.parametrize(
    ("stated", "path", "remedy"),
    [
        pytest.param(
            {"storage": "models/{model}/{version}"}, "storage", "s3://", id="storage-without-scheme"
        ),
        pytest.param(
            {"storage": "ftp://{model}/{version}"}, "storage", "s3://", id="storage-of-unknown-scheme"
        ),
        pytest.param(
            {"storage": "s3://models/{model}"}, "storage", "{version}", id="storage-without-version"
        ),
        pytest.param({"storage": "s3://{model}/{version}/{x}"}, "storage", "{model}", id="storage-with-more"),
        pytest.param({"storage": 7.5}, "storage", "template", id="storage-no-text"),
        pytest.param({"mode": "RawDeployment"}, "mode", "Standard, Serverless", id="older-name-of-a-mode"),
        pytest.param({"image": "windlass/serving:latest"}, "image", "pin it", id="latest"),
        pytest.param({"image": "registry:5000/serving"}, "image", "pin it", id="image-without-tag"),
        pytest.param({"workers": 0}, "workers", "1..64", id="no-worker"),
        pytest.param({"resources": {"memory": "much"}}, "resources.memory", "512Mi", id="no-quantity"),
        pytest.param(
            {"scaling": {"minReplicas": 7}}, "scaling.minReplicas", "maxReplicas (6)", id="min-above-max"
        ),
        pytest.param(
            {"scaling": {"minReplicas": 0}}, "scaling.minReplicas", "Serverless", id="zero-in-standard"
        ),
        pytest.param(
            {"scaling": {"metric": "concurrency"}}, "scaling.metric", "keda", id="hpa-on-concurrency"
        ),
        pytest.param(
            {"scaling": {"scaler": "keda", "metric": "concurrency"}},
            "scaling.prometheus",
            "URL",
            id="keda-asks-nobody",
        ),
        pytest.param(
            {"scaling": {"target": 101}}, "scaling.target", "1 to 100", id="more-than-all-of-the-cpu"
        ),
        pytest.param(
            {"scaling": {"labels": {"namespace": 'a"} or vector(0)'}}},
            "scaling.labels",
            "mapping",
            id="query-in-a-label",
        ),
        pytest.param(
            {"mode": "Serverless", "scaling": {"scaler": "hpa"}},
            "scaling.scaler",
            "Knative",
            id="hpa-in-serverless",
        ),
        pytest.param(
            {"mode": "Serverless", "scaling": {"metric": "cpu"}},
            "scaling.metric",
            "concurrency",
            id="cpu-in-serverless",
        ),
        pytest.param(
            {"verifyKey": {"configMap": "a", "secret": "b"}}, "verifyKey", "not both", id="two-keys"
        ),
        pytest.param(
            {"payload": {"url": "collector:8088"}}, "payload.url", "http://", id="payload-to-no-url"
        ),
        pytest.param(
            {"environment": [{"name": "A"}]}, "environment", "a value or a secret", id="empty-variable"
        ),
        pytest.param({"tolerations": {"key": "a"}}, "tolerations", "list", id="one-toleration"),
        pytest.param({"serviceAccount": "Models!"}, "serviceAccount", "lower case", id="no-name"),
        pytest.param({"replicas": 3}, "replicas", "unknown field", id="unknown-field"),
        pytest.param({"models": ["flights"]}, "models", "mapping", id="models-no-mapping"),
        pytest.param(
            {"models": {"flights": {"workers": 0}}}, "models.flights.workers", "1..64", id="in-one-model"
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(stated: dict[str, Any], path: str, remedy: str) -> None:
    """Verify that one problem is found, with its path and a remedy."""
    with pytest.raises(SpecError) as caught:
        serving_options.parse({"storage": STORAGE, **stated})
    (problem,) = caught.value.problems
    assert problem.path == path
    assert remedy in problem.remedy


def test_what_is_wrong_for_all_models_is_said_once() -> None:
    """Verify that two models with exceptions do not repeat the fault of the common part."""
    with pytest.raises(SpecError) as caught:
        serving_options.parse(
            {"storage": STORAGE, "image": "a:latest", "models": {"b": {"workers": 2}, "c": {"workers": 3}}}
        )
    assert [problem.path for problem in caught.value.problems] == ["image"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"storage: [", "is not YAML", id="no-yaml"),
        pytest.param(b"", "storage", id="empty"),
        pytest.param(b"- a", "mapping", id="a-list"),
        pytest.param(b"\xff\xfe", "UTF-8", id="no-utf-8"),
    ],
)
def test_a_file_that_is_no_document_names_itself(tmp_path: Path, content: bytes, words: str) -> None:
    """Verify that the message names the file and what is wrong with it."""
    path = tmp_path / "serving.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        serving_options.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        pytest.param({}, 70, id="cpu"),
        pytest.param({"scaling": {"metric": "memory"}}, 85, id="memory"),
        pytest.param({"mode": "Serverless", "workers": 3}, 12, id="serverless-by-worker"),
        pytest.param({"scaling": {"target": 50}}, 50, id="stated"),
    ],
)
def test_targets(stated: dict[str, Any], wanted: int) -> None:
    """Verify what a replica should have where nothing else is stated."""
    assert target(serving_options.parse({"storage": STORAGE, **stated})) == wanted


def test_the_page_about_them_names_every_option() -> None:
    """Verify that the documented example is valid, and that no option is left out of the page."""
    page = (Path(__file__).parents[5] / "docs/kserve.md").read_text()
    example = page.split("```yaml\n", 1)[1].split("```", 1)[0]
    assert serving_options.loads(example).of("flights").workers == 4
    for of in (serving_options.ServingOptions, serving_options.Scaling, serving_options.Resources):
        for name in forms(of):
            assert name in page, name
