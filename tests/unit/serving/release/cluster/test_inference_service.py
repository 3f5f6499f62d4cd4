"""InferenceServices as they are rendered; tests/cluster/test_kserve_objects.py asks KServe's CRD what it thinks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.release.cluster import inference_service, naming
from serving.release.cluster.inference_service import RENDERED
from serving.release.cluster.serving_options import ServingOptions, parse
from serving.runtime import __main__ as runtime
from windlass.cli.app import run
from windlass.errors import UsageError

ROOT = Path(__file__).parents[5]
SAMPLES = sorted((ROOT / "manifests/serving-options").glob("*.yaml"))
STORAGE = "s3://models/{model}/{version}"


def options(**stated: Any) -> ServingOptions:
    return parse({"storage": STORAGE, **stated})


def service(version: str = "12", **stated: Any) -> dict[str, Any]:
    return inference_service.render("flights", version, options(**stated), namespace="prod")[0]


def predictor(**stated: Any) -> dict[str, Any]:
    found: dict[str, Any] = service(**stated)["spec"]["predictor"]
    return found


def digest(**stated: Any) -> str:
    found: str = predictor(**stated)["annotations"][RENDERED]
    return found


def test_a_version_is_served_under_the_name_that_routes_use() -> None:
    """Verify that KServe's Service of the InferenceService is the one that our HTTPRoute names."""
    made = service()
    assert f"{made['metadata']['name']}-predictor" == naming.predictor("flights", "12")
    assert made["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "windlass",
        "windlass.dev/model": "flights",
        "windlass.dev/version": "12",
        "networking.kserve.io/visibility": "cluster-local",
    }
    with pytest.raises(UsageError, match="cannot name a Service"):
        inference_service.render("Flights", "12", options())


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param({"workers": 2}, id="workers"),
        pytest.param({"online": {"secret": "redis"}}, id="online"),
        pytest.param({"payload": {"url": "http://collector:8088/"}}, id="payload"),
        pytest.param({"verifyKey": {"configMap": "keys", "key": "own.pem"}}, id="key"),
        pytest.param({"arguments": ["--deadline-ms", "200"]}, id="arguments"),
    ],
)
def test_the_model_server_takes_the_arguments(stated: dict[str, Any]) -> None:
    """Verify that what follows the runtime's arguments is what the server's own command line understands."""
    given = predictor(**stated)["model"]["args"]
    _, plain = runtime.parse(["--bundle", "/mnt/models", "--port", "8080"])
    _, parsed = runtime.parse(["--bundle", "/mnt/models", "--port", "8080", *given])
    assert parsed != plain


def test_payloads_are_sent_in_batches_by_the_server_itself() -> None:
    """Verify that no agent stands beside it unless it is asked for, and that never both send."""
    payload = {"url": "http://collector:8088/", "mode": "response", "batch": 50}
    own = predictor(payload=payload)
    assert own["model"]["args"] == ["--log", "http://collector:8088/#batch=50&mode=response"]
    assert "logger" not in own
    agent = predictor(payload={**payload, "sender": "kserve"})
    assert agent["logger"] == {"mode": "response", "url": "http://collector:8088/"}
    assert "args" not in agent["model"]


def test_secrets_are_named_and_never_written() -> None:
    """Verify that the online store's URL comes from the Secret when the container starts."""
    made = predictor(online={"secret": "redis", "key": "address"})["model"]
    assert made["args"] == ["--online", "$(WINDLASS_ONLINE_STORE)"]
    reference = {"secretKeyRef": {"name": "redis", "key": "address"}}
    assert made["env"] == [{"name": "WINDLASS_ONLINE_STORE", "valueFrom": reference}]


@pytest.mark.parametrize(
    ("stated", "annotations", "fields"),
    [
        pytest.param(
            {"scaling": {"metric": "memory", "minReplicas": 1, "maxReplicas": 3}},
            {"serving.kserve.io/autoscalerClass": "hpa"},
            {
                "minReplicas": 1,
                "maxReplicas": 3,
                "autoScaling": {
                    "metrics": [
                        {
                            "type": "Resource",
                            "resource": {
                                "name": "memory",
                                "target": {"type": "Utilization", "averageUtilization": 85},
                            },
                        }
                    ]
                },
            },
            id="hpa",
        ),
        pytest.param(
            {
                "scaling": {
                    "scaler": "keda",
                    "metric": "concurrency",
                    "prometheus": "http://p:9090",
                    "labels": {"cluster": "east"},
                }
            },
            {"serving.kserve.io/autoscalerClass": "keda"},
            {
                "minReplicas": 2,
                "maxReplicas": 6,
                "autoScaling": {
                    "metrics": [
                        {
                            "type": "External",
                            "external": {
                                "metric": {
                                    "backend": "prometheus",
                                    "serverAddress": "http://p:9090",
                                    "query": 'sum(rate(windlass_request_seconds_sum{model="flights",'
                                    'version="12",namespace="prod",cluster="east"}[1m]))',
                                },
                                "target": {"type": "Value", "value": "4"},
                            },
                        }
                    ]
                },
            },
            id="keda",
        ),
        pytest.param(
            {"scaling": {"scaler": "none", "minReplicas": 3}},
            {"serving.kserve.io/autoscalerClass": "none"},
            {"minReplicas": 3, "maxReplicas": 3},
            id="none",
        ),
        pytest.param(
            {"mode": "Serverless", "scaling": {"minReplicas": 0}},
            {},
            {"minReplicas": 0, "maxReplicas": 6, "scaleMetric": "concurrency", "scaleTarget": 4},
            id="serverless",
        ),
    ],
)
def test_replicas_follow_the_load(
    stated: dict[str, Any], annotations: dict[str, str], fields: dict[str, Any]
) -> None:
    """Verify what KServe is told of each way to scale."""
    made = service(**stated)
    told = dict(made["metadata"]["annotations"])
    del told["serving.kserve.io/deploymentMode"]
    assert told == annotations
    scaling = ("minReplicas", "maxReplicas", "autoScaling", "scaleMetric", "scaleTarget")
    assert {
        key: made["spec"]["predictor"][key] for key in scaling if key in made["spec"]["predictor"]
    } == fields


@pytest.mark.parametrize(
    ("namespace", "labels", "selector"),
    [
        pytest.param("prod", {}, 'namespace="prod"', id="where-it-is"),
        pytest.param(None, {"namespace": "prod"}, 'namespace="prod"', id="stated"),
        pytest.param(
            "prod", {"namespace": "", "ns": "prod"}, 'namespace="",ns="prod"', id="called-otherwise"
        ),
    ],
)
def test_a_model_of_the_same_name_elsewhere_scales_nobody(
    namespace: str | None, labels: dict[str, str], selector: str
) -> None:
    """Verify that KEDA's query names the namespace, for every kind of InferenceService."""
    scaling = {"scaler": "keda", "metric": "concurrency", "prometheus": "http://p:9090", "labels": labels}
    stated = options(scaling=scaling)
    whole = {"predictor": inference_service.predictor("flights", "12", stated, namespace=namespace)}
    for made in (
        inference_service.render("flights", "12", stated, namespace=namespace)[0]["spec"],
        inference_service.for_all_versions("flights", "12", stated, "kserve", namespace=namespace)[0]["spec"],
        whole,
    ):
        (metric,) = made["predictor"]["autoScaling"]["metrics"]
        assert f'{{model="flights",version="12",{selector}}}' in metric["external"]["metric"]["query"]


def test_knative_is_asked_for_nothing_that_it_refuses() -> None:
    """Verify that fields which Knative's validation does not know, or only behind a switch, are left out."""
    made = service(mode="Serverless", stopSeconds=30)
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    refused = {
        "terminationGracePeriodSeconds",
        "securityContext",
        "topologySpreadConstraints",
        "deploymentStrategy",
    }
    assert not refused & set(made["spec"]["predictor"])
    assert "lifecycle" not in made["spec"]["predictor"]["model"]
    assert made["spec"]["predictor"]["model"]["runtime"] == "windlass-serverless"
    assert len(inference_service.render("flights", "12", options(mode="Serverless"))) == 1


@pytest.mark.parametrize(
    ("stated", "budgets"),
    [
        pytest.param({}, 1, id="two-replicas"),
        pytest.param({"scaling": {"minReplicas": 1}}, 0, id="one-replica-must-not-hold-a-node"),
        pytest.param({"disruptionBudget": False}, 0, id="switched-off"),
    ],
)
def test_disruption_budgets(stated: dict[str, Any], budgets: int) -> None:
    """Verify that there is one where it leaves somebody who answers."""
    assert len(inference_service.render("flights", "12", options(**stated))) == 1 + budgets


def test_new_pods_are_asked_for_only_where_they_must_be_new() -> None:
    """Verify that the digest changes with what a pod is made from, and not with how many there are."""
    assert digest(scaling={"maxReplicas": 20}) == digest()
    assert digest(disruptionBudget=False) == digest()
    others = [digest(workers=2), digest(storage="pvc://m/{model}/{version}"), digest(priorityClass="high")]
    assert len({digest(), *others}) == 4


def test_one_service_for_all_versions_takes_the_predictor_alone() -> None:
    """Verify that what the backends kserve and knative put into their InferenceService is what stands in ours, and that
    replicas are spread among the pods of theirs, which is called like the model."""
    alone = inference_service.predictor("flights", "12", options())
    own = {key: value for key, value in predictor().items() if key != "annotations"}
    for constraint in own["topologySpreadConstraints"]:
        constraint["labelSelector"] = {"matchLabels": {"serving.kserve.io/inferenceservice": "flights"}}
    assert alone == own


def test_the_predictor_is_for_the_mode_of_its_service() -> None:
    """Verify that a backend's mode wins, and that the scaling of the other mode is not carried over."""
    standard = options(scaling={"metric": "memory", "target": 90})
    serverless = options(mode="Serverless", scaling={"minReplicas": 0, "target": 8})
    made = inference_service.predictor
    assert made("f", "1", standard, "Serverless") == made("f", "1", options(mode="Serverless"))
    assert made("f", "1", serverless, "Standard") == made("f", "1", options(scaling={"minReplicas": 1}))
    assert made("f", "1", standard, "Standard") == made("f", "1", standard)


@pytest.mark.parametrize(
    ("backend", "mode", "named"),
    [
        pytest.param("kserve", "Standard", "v12", id="kserve-finds-the-version-in-the-name"),
        pytest.param("knative", "Knative", None, id="knative-in-the-annotation"),
    ],
)
def test_kserves_own_backends_begin_with_a_champion(
    backend: str, mode: str, named: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that the InferenceService is what the backend reads the champion from, with a route of KServe's."""
    assert run(["render", "flights", "12", "--storage", STORAGE, "--backend", backend, "--json"]) == 0
    made, *others = json.loads(capsys.readouterr().out)["items"]
    assert made["metadata"]["name"] == "flights"
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == mode
    assert made["metadata"]["annotations"]["windlass.dev/version"] == "12"
    assert made["spec"]["predictor"].get("name") == named
    assert not [label for label in made["metadata"]["labels"] if "visibility" in label]
    assert [other["kind"] for other in others] == (["PodDisruptionBudget"] if mode == "Standard" else [])


def test_the_command_line_prints_what_the_operator_applies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that `windlass render` reads the options and prints the same objects."""
    file = tmp_path / "serving.yaml"
    file.write_text(f"storage: {STORAGE}\nworkers: 3\n")
    assert run(["render", "flights", "12", "--options", str(file)]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == inference_service.render("flights", "12", options(workers=3))
    assert run(["render", "flights", "12", "--storage", STORAGE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == inference_service.render(
        "flights", "12", options()
    )


@pytest.mark.parametrize("sample", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_a_sample_is_what_its_first_line_prints(
    sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that the rendered samples are up to date with their options."""
    monkeypatch.chdir(ROOT)
    command, rendered = (ROOT / "manifests/samples/kserve" / sample.name).read_text().split("\n", 1)
    assert run(command.removeprefix("# windlass ").split()) == 0
    assert capsys.readouterr().out == rendered


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["flights", "12"], "--options FILE or --storage", id="nothing-says-where"),
        pytest.param(["flights", "--storage", STORAGE], "name a model and a version", id="no-version"),
        pytest.param(["flights", "12", "--runtimes"], "leave one out", id="a-model-and-the-runtimes"),
        pytest.param(["--runtimes", "--options", "x.yaml"], "not allowed with", id="options-of-the-runtimes"),
        pytest.param(
            ["f", "1", "--storage", STORAGE, "--image", "i:1"], "in the options", id="image-of-a-version"
        ),
        pytest.param(["--runtimes", "--namespace", "prod"], "belong to the cluster", id="runtimes-somewhere"),
        pytest.param(
            ["f", "1", "--options", str(ROOT / "manifests/serving-options/keda.yaml")],
            "give --namespace",
            id="scaled-by-everybody",
        ),
    ],
)
def test_a_command_that_cannot_be_meant(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that it is refused with exit code 2 and a remedy."""
    assert run(["render", *arguments]) == 2
    assert words in capsys.readouterr().err
