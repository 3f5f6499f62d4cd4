"""What a namespace's file states reaches the pods, and what it cannot mean is said all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from pipelines import compile as compiling
from pipelines import pods
from windlass.errors import UsageError

CONFIG = """
image: registry.example/team/training@sha256:0f1e2d3c
imagePullPolicy: Always
imagePullSecrets: [regcred]
env: {WINDLASS_ONLINE_STORE: redis, WINDLASS_REDIS_URL: redis://redis:6379/0}
secrets:
- {name: s3, env: {AWS_ACCESS_KEY_ID: access, AWS_SECRET_ACCESS_KEY: secret}}
- {name: shared, env: {A: token, B: token}}
- {name: keys, path: /etc/windlass/signing, steps: [register]}
configMaps:
- {name: team, env: {MLFLOW_TRACKING_URI: mlflow}, optional: true}
claims:
- {claim: home, path: /var/lib/windlass/cache, subPath: flights}
nodeSelector: {disktype: ssd}
tolerations:
- {key: dedicated, operator: Equal, value: training, effect: NoSchedule}
- {}
labels: {team: a}
annotations: {sidecar.istio.io/inject: "false"}
timeout: 1h
retries: {count: 1, backoff: 5s}
steps:
  validate: {cache: true}
  tune-and-train:
    {cpu: "4", cpuLimit: "8", memory: 8Gi, memoryLimit: 16Gi, timeout: 4h, env: {WINDLASS_TRAIN_THREADS: "4"}}
  register: {retries: {count: 0}}
"""


def compiled(text: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Containers, pods and tasks by step."""
    stated = pods.parse(yaml.safe_load(text) or {})
    pipeline, platform = yaml.safe_load_all(compiling.render(stated))
    containers = {
        n.removeprefix("exec-"): e["container"] for n, e in pipeline["deploymentSpec"]["executors"].items()
    }
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    inside = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    tasks = {**inside, "report": pipeline["root"]["dag"]["tasks"]["report"]}
    return containers, {n.removeprefix("exec-"): e for n, e in executors.items()}, tasks


@pytest.fixture(scope="module")
def stated() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    return compiled(CONFIG)


def secrets(pod: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Secret -> variable -> key."""
    found: dict[str, dict[str, str]] = {}
    for one in pod.get("secretAsEnv", ()):
        found.setdefault(one["secretName"], {}).update({k["envVar"]: k["secretKey"] for k in one["keyToEnv"]})
    return found


def test_every_pod_gets_what_is_stated_for_all(stated: Any) -> None:
    containers, executors, _ = stated
    assert set(executors) == set(containers) == set(pods.EVERY)
    for name, pod in executors.items():
        assert containers[name]["image"] == "registry.example/team/training@sha256:0f1e2d3c"
        assert pod["imagePullPolicy"] == "Always" and pod["imagePullSecret"][0]["secretName"] == "regcred"
        assert pod["nodeSelector"] == {"labels": {"disktype": "ssd"}}
        assert pod["tolerations"] == [
            {"key": "dedicated", "operator": "Equal", "value": "training", "effect": "NoSchedule"},
            {"operator": "Exists"},
        ]
        assert pod["podMetadata"]["labels"] == {
            "app.kubernetes.io/part-of": "windlass", "app.kubernetes.io/component": "training", "team": "a",
            "windlass.dev/step": name,
        }  # fmt: skip
        assert pod["podMetadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
        assert secrets(pod)["s3"] == {"AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "secret"}
        # two variables of one key: kfp's own mapping would keep one
        assert secrets(pod)["shared"] == {"A": "token", "B": "token"}
        assert [m["configMapName"] for m in pod["configMapAsEnv"]] == ["team"]
        given = {e["name"]: e["value"] for e in containers[name]["env"]}
        assert given["WINDLASS_REDIS_URL"] == "redis://redis:6379/0"


def test_steps_have_their_own(stated: Any) -> None:
    containers, executors, tasks = stated
    train = containers["tune-and-train"]
    assert (train["resources"]["resourceCpuRequest"], train["resources"]["resourceCpuLimit"]) == ("4", "8")
    assert (train["resources"]["resourceMemoryRequest"], train["resources"]["resourceMemoryLimit"]) == (
        "8Gi",
        "16Gi",
    )
    assert {"name": "WINDLASS_TRAIN_THREADS", "value": "4"} in train["env"]
    seconds = {n: e["activeDeadlineSeconds"] for n, e in executors.items()}
    assert seconds == {**dict.fromkeys(pods.EVERY, "3600"), "tune-and-train": "14400", "report": "600"}
    volumes = {n: [v["secretName"] for v in e.get("secretAsVolume", ())] for n, e in executors.items()}
    assert {n for n, found in volumes.items() if found == ["keys"]} == {"register"}
    assert "retryPolicy" not in tasks["register"]
    retried = tasks["tune-and-train"]["retryPolicy"]
    assert retried == {
        "maxRetryCount": 1, "backoffDuration": "5s", "backoffFactor": 2.0, "backoffMaxDuration": "600s"
    }  # fmt: skip
    assert tasks["validate"]["cachingOptions"] == {"enableCache": True}
    claims = {n: e.get("pvcMount") for n, e in executors.items()}
    assert claims.pop("report") is None
    for found in claims.values():
        assert found is not None
        (mount,) = found
        assert (mount["constant"], mount["mountPath"], mount["subPath"]) == (
            "home",
            "/var/lib/windlass/cache",
            "flights",
        )


def test_without_a_file_no_step_gets_a_secret_that_it_does_not_use() -> None:
    _, executors, _ = compiled("")
    found = {
        name: set(secrets(pod)) | {v["secretName"] for v in pod.get("secretAsVolume", ())}
        for name, pod in executors.items()
    }
    assert found == {
        "validate": {"windlass-s3", "windlass-mlflow"},
        "training-set": {"windlass-s3"},
        "tune-and-train": set(),
        "evaluate-and-gate": {"windlass-s3", "windlass-mlflow", "windlass-signing-key"},
        "register": {"windlass-s3", "windlass-mlflow", "windlass-signing-key"},
        "report": {"windlass-retrain-token"},
    }
    every = [
        s
        for pod in executors.values()
        for kind in ("secretAsEnv", "secretAsVolume")
        for s in pod.get(kind, ())
    ]
    # a namespace without them runs the pipeline as well
    assert all(one["optional"] for one in every)


@pytest.mark.parametrize("text", [pytest.param("", id="default"), pytest.param(CONFIG, id="stated")])
def test_every_pod_says_that_it_is_not_root_and_whose_files_are_its_own(text: str) -> None:
    """Verify what Kubeflow leaves to a step, without which Pod Security at `restricted` admits none of ours."""
    image = (Path(compiling.__file__).parents[1] / "docker" / "training.Dockerfile").read_text()
    assert f"USER {pods.USER}\n" in image and f"chown {pods.USER}:{pods.USER} /var/lib/windlass" in image
    _, executors, _ = compiled(text)
    assert set(executors) == set(pods.EVERY)
    # numbers of 64 bits are texts in a protocol buffer's JSON
    user = {"runAsUser": str(pods.USER), "runAsGroup": str(pods.USER), "runAsNonRoot": True}
    assert all(pod["securityContext"] == user for pod in executors.values())


def test_the_region_comes_by_the_name_that_boto_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (source,) = pods.DEFAULT.config_maps
    (region,) = (variable for variable in source.env if "REGION" in variable)
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert boto3.Session().region_name is None
    monkeypatch.setenv(region, "eu-central-1")
    assert boto3.Session().region_name == "eu-central-1"


def test_every_pod_has_a_memory_limit_and_an_end() -> None:
    containers, executors, _ = compiled("")
    for name in pods.EVERY:
        assert containers[name]["resources"]["resourceMemoryLimit"]
        assert int(executors[name]["activeDeadlineSeconds"]) > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("secret: []", r"secret = \[\]: unknown field", id="unknown-field"),
        pytest.param(
            "secrets: [{name: s3}]", r"secrets\[0\] = 's3': needs env, path or both", id="secret-for-nothing"
        ),
        pytest.param(
            "secrets: [{name: s3, env: [A]}]", r"secrets\[0\].env .*map environment variables", id="list"
        ),
        pytest.param(
            "secrets: [{name: s, path: x}]", r"secrets\[0\].path = 'x': must be an absolute", id="relative"
        ),
        pytest.param(
            "secrets: [{name: s, path: /x, steps: [all]}]",
            r"secrets\[0\].steps = 'all': no such step",
            id="source-step",
        ),
        pytest.param("env: {1A: x}", "env.1A = 'x': is no name", id="variable"),
        pytest.param("env: {A: 1}", "env.A = 1: must be a text; put it in quotes", id="number"),
        pytest.param("labels: [a]", "labels = .*must map names to texts", id="labels"),
        pytest.param("steps: {train: {}}", "steps.train = {}: no such step; there are validate", id="step"),
        pytest.param("steps: [validate]", "steps = .*must be a mapping by step", id="steps"),
        pytest.param(
            "steps: {validate: {cpu: much, memory: 4 GB}}",
            "steps.validate.cpu = 'much': write a quantity.*steps.validate.memory = '4 GB'",
            id="both-quantities",
        ),
        pytest.param(
            "tolerations: [{operator: Equal, key: a}]", r"tolerations\[0\].value = null: Equal", id="equal"
        ),
        pytest.param("claims: [{claim: a, path: b}]", r"claims\[0\].path = 'b'", id="claim"),
        pytest.param(
            "retries: {count: 99}", "retries.count = 99: give a whole number in 0..20", id="retries"
        ),
        pytest.param("timeout: soon", "timeout = 'soon': write a duration", id="timeout"),
        pytest.param("[]", r"document = \[\]: must be a mapping", id="no-mapping"),
    ],
)
def test_what_cannot_be_meant_is_said_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"namespace config .*config.yaml: .*{said}"):
        pods.load(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"a: [", "is no YAML", id="no-yaml"),
        pytest.param(b"\xff\xfe\x00", "is no YAML", id="no-text"),
    ],
)
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        pods.load(path)


def test_a_backend_that_is_told_of_no_exit_task_gets_none() -> None:
    """Verify `report: false`, for a Kubeflow that refuses a pipeline whose last task asks how the others ended."""
    pipeline, platform = yaml.safe_load_all(compiling.render(pods.parse({"report": False})))
    assert set(pipeline["root"]["dag"]["tasks"]) == set(pods.STEPS)
    assert "TASK_FINAL_STATUS" not in str(pipeline)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {f"exec-{name}" for name in pods.STEPS}


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing yet\n")
    assert pods.load(path) == pods.DEFAULT
