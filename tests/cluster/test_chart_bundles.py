"""Where the chart has model servers load bundles from, and that what is registered comes there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from manifests.generate import documents, render
from pipelines.pods import DEFAULT
from serving.release.cluster import inference_service, serving_options
from tests.cluster.charts import SOURCES, pods
from tests.cluster.tools.build import BUILD_S
from windlass.objectstore import bundle_prefix

pytestmark = pytest.mark.timeout(2 * BUILD_S)


def config(text: str, name: str) -> dict[str, str]:
    """The content of a ConfigMap."""
    (found,) = (d for k, d in documents(text).items() if (k.kind, k.name) == ("ConfigMap", name))
    content: dict[str, str] = found["data"]
    return content


CLAIM = "windlass-models"
READERS = ("windlass-retrain", "windlass-collector", "windlass-analysis-flights")
STORE = "objectStore.url=s3://bucket/team"


def claims(pod: Mapping[str, Any]) -> set[str]:
    volumes = pod["spec"].get("volumes", ())
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}


@pytest.mark.parametrize(
    ("settings", "storage", "claimed"),
    [
        pytest.param((), f"pvc://{CLAIM}/{{model}}/{{version}}", True, id="nothing-stated"),
        pytest.param((STORE,), "s3://bucket/team/models/{model}/{version}/", False, id="object-store"),
        pytest.param(
            (STORE, f"operator.serving.storage=pvc://{CLAIM}/{{model}}/{{version}}"),
            f"pvc://{CLAIM}/{{model}}/{{version}}", True, id="object-store-for-data-alone",
        ),
        pytest.param(
            ("operator.serving.storage=s3://b/{model}/{version}",), "s3://b/{model}/{version}", False, id="elsewhere"
        ),
        pytest.param(
            (STORE, f"operator.serving.models.big.storage=pvc://{CLAIM}/{{model}}/{{version}}"),
            "s3://bucket/team/models/{model}/{version}/", True, id="one-model-on-the-volume",
        ),
    ],
)  # fmt: skip
def test_bundles_lie_where_model_servers_load_them(
    settings: tuple[str, ...], storage: str, claimed: bool
) -> None:
    """Verify that the volume is made and mounted where bundles lie on it, and the key where they are brought."""
    text = render(settings=("models.volume.accessMode=ReadWriteMany", *settings))
    options = yaml.safe_load(config(text, "windlass-operator")["serving.yaml"])
    assert options["storage"] == storage
    assert any((k.kind, k.name) == ("PersistentVolumeClaim", CLAIM) for k in documents(text)) is claimed
    started = pods(text)
    for name in READERS:
        (container,) = started[name]["spec"]["containers"]
        mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
        assert (CLAIM in claims(started[name])) is claimed
        writes = not mounts.get("/var/lib/windlass/models", {}).get("readOnly", False)
        assert writes is (name == "windlass-retrain" or not claimed)
    # the trigger takes what a run has registered, the others what the object store has
    (volume,) = (v for v in started["windlass-retrain"]["spec"]["volumes"] if v["name"] == "verify")
    assert volume["configMap"]["name"] == "windlass-verify-key"
    brought = STORE in settings
    for name in READERS[1:]:
        volumes = [v["name"] for v in started[name]["spec"]["volumes"]]
        needed = brought and not (name == "windlass-analysis-flights" and claimed)
        assert ("verify" in volumes) is needed, name


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_a_registered_version_is_where_its_inference_service_looks(name: str) -> None:
    """Verify values, chart and code against each other: what registering writes is the prefix that KServe fetches."""
    text = render(*SOURCES[name])
    options = yaml.safe_load(config(text, "windlass-operator")["serving.yaml"])
    pipeline = config(text, "windlass-pipeline")
    made, *_ = inference_service.render("flights", "12", serving_options.parse(options, name))
    uri = made["spec"]["predictor"]["model"]["storageUri"]
    assert uri == f"{pipeline['WINDLASS_OBJECT_STORE']}/{bundle_prefix('flights', '12')}"


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_steps_take_every_key_that_the_chart_states_for_them(name: str) -> None:
    (source,) = DEFAULT.config_maps
    stated = config(render(*SOURCES[name]), source.name)
    # the provider's own endpoint needs no word
    assert set(source.env) - set(stated) == {"WINDLASS_S3_ENDPOINT", "MLFLOW_S3_ENDPOINT_URL"}
    assert set(stated) <= set(source.env) and stated["AWS_DEFAULT_REGION"] == "eu-central-1"
