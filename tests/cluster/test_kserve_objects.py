"""What we hand to KServe 0.20, held against its own CRDs and against Pod Security, on a real API server."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Literal

import pytest
import serving_variants
import yaml

from serving.release.backend import RejectedError
from serving.release.cluster import inference_service, serving_runtime
from serving.release.cluster.api import INFERENCE_SERVICE, KubernetesApi
from serving.release.cluster.inference_service import POD_DISRUPTION_BUDGET
from serving.release.cluster.servers import DEPLOYMENT, Servers, holds
from serving.release.cluster.serving_options import ServingOptions, parse
from tests.cluster.api_server import ApiServer, established, rights_in_force
from tests.cluster.tools.build import BUILD_S, module_dir
from windlass.errors import WindlassError

pytestmark = pytest.mark.timeout(2 * BUILD_S)

ROOT = Path(__file__).parents[2]
NAMESPACE = "kserve-objects"
STORAGE = "s3://models/{model}/{version}"
CRDS = (
    "serving.kserve.io_inferenceservices.yaml",
    "serving.kserve.io_clusterservingruntimes.yaml",
    "serving.kserve.io_inferencegraphs.yaml",
    "clusterstoragecontainer/serving.kserve.io_clusterstoragecontainers.yaml",
)
PLURALS = {
    "InferenceService": "inferenceservices",
    "InferenceGraph": "inferencegraphs",
    "ClusterServingRuntime": "clusterservingruntimes",
    "ClusterStorageContainer": "clusterstoragecontainers",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "ServiceAccount": "serviceaccounts",
    "ConfigMap": "configmaps",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Job": "jobs",
    "NetworkPolicy": "networkpolicies",
}


def options(**stated: Any) -> ServingOptions:
    return parse({"storage": STORAGE, **stated})


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    folder = module_dir("github.com/kserve/kserve") / "config" / "crd" / "full"
    routes = module_dir("sigs.k8s.io/gateway-api", "envoygateway") / "config" / "crd" / "standard"
    for file in (*(folder / name for name in CRDS), *routes.glob("*_httproutes.yaml")):
        api_server.kubectl("apply", "--server-side", "-f", file)
    established(api_server)
    for namespace, level in ((NAMESPACE, "privileged"), ("kserve-restricted", "restricted")):
        labels = {"pod-security.kubernetes.io/enforce": level}
        api_server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace, "labels": labels}})
        account = {"metadata": {"name": "default"}}
        api_server.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    return api_server


@pytest.fixture
def api(server: ApiServer) -> KubernetesApi:
    return KubernetesApi.connect(server.kubeconfig, timeout_s=30.0)


@pytest.fixture
def servers(api: KubernetesApi) -> Servers:
    return Servers(api, NAMESPACE, options())


def taken(server: ApiServer, document: dict[str, Any], namespace: str = NAMESPACE) -> dict[str, Any]:
    """What the API server makes of a document that it checks strictly, and forgets."""
    version, plural = document["apiVersion"], PLURALS[document["kind"]]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    scope = "" if document["kind"].startswith("Cluster") else f"/namespaces/{namespace}"
    query = "fieldValidation=Strict&dryRun=All&fieldManager=test"
    answer: dict[str, Any] = server.request("POST", f"{root}{scope}/{plural}?{query}", document)
    return answer


@pytest.mark.parametrize("stated", serving_variants.STATED.values(), ids=serving_variants.STATED)
def test_kserves_crd_takes_every_field_that_is_rendered(server: ApiServer, stated: dict[str, Any]) -> None:
    """Verify that no field is unknown to KServe 0.20, and that none is dropped or changed."""
    for document in inference_service.render("flights", "12", parse(stated), namespace=NAMESPACE):
        assert holds(document, taken(server, document))


@pytest.mark.parametrize("backend", ["kserve", "knative"])
def test_it_takes_the_services_of_its_own_backends(
    server: ApiServer, backend: Literal["kserve", "knative"]
) -> None:
    """Verify the same of the InferenceService that has all versions, and of a canary in it."""
    document, *_ = inference_service.for_all_versions("flights", "12", options(), backend)
    assert holds(document, taken(server, document))
    if backend == "kserve":
        kept = inference_service.predictor("flights", "13", options(), "Standard")
        for scaling in ("minReplicas", "maxReplicas", "autoScaling"):
            del kept[scaling]
        canary = {**kept, "name": "v13", "model": {**kept["model"], "name": "kserve-container"}}
        document["spec"]["canary"] = [{"predictor": canary, "trafficPercent": 10}]
        assert holds(document, taken(server, document))


def test_the_check_above_finds_an_unknown_field(server: ApiServer) -> None:
    """Verify that a field which KServe does not know is refused, wherever it stands."""
    for path in (("spec",), ("spec", "predictor"), ("spec", "predictor", "model", "resources")):
        document = copy.deepcopy(inference_service.render("flights", "12", options())[0])
        place = document
        for key in path:
            place = place[key]
        place["windlassKnows"] = "better"
        with pytest.raises(WindlassError, match=r'unknown field \\"[\w.]*windlassKnows'):
            taken(server, document)


def test_kserves_crd_takes_the_runtimes(server: ApiServer) -> None:
    """Verify the same of the ClusterServingRuntimes."""
    for document in serving_runtime.documents():
        assert holds(document, taken(server, document))


SAMPLES = sorted((ROOT / "manifests" / "samples" / "kserve").glob("*.yaml"))


@pytest.mark.parametrize("sample", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_the_samples_are_taken(server: ApiServer, sample: Path) -> None:
    """Verify that each document of each sample is valid as it stands."""
    documents = list(yaml.safe_load_all(sample.read_text()))
    assert documents
    for document in documents:
        assert holds(document["metadata"], taken(server, document)["metadata"])


def pod_of(server: ApiServer, tmp_path: Path, stated: dict[str, Any]) -> dict[str, Any]:
    """The pod that KServe makes of a runtime and an InferenceService: both are merged strategically, by kubectl here
    as by the same code there, and the arguments of one follow those of the other."""
    wanted = inference_service.render("flights", "12", parse(stated), namespace=NAMESPACE)[0]
    predictor = wanted["spec"]["predictor"]
    runtimes = {document["metadata"]["name"]: document for document in serving_runtime.documents()}
    runtime = runtimes[predictor["model"]["runtime"]]["spec"]
    base = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "flights-12"},
        "spec": {key: runtime[key] for key in ("containers", "volumes")},
    }
    kserves = {
        "model",
        "minReplicas",
        "maxReplicas",
        "autoScaling",
        "scaleMetric",
        "scaleTarget",
        "deploymentStrategy",
        "annotations",
        "logger",
        "storageContainerName",
    }
    pod = {key: value for key, value in predictor.items() if key not in kserves}
    of_kserve = {"modelFormat", "runtime", "protocolVersion", "storageUri", "args"}
    container = {key: value for key, value in predictor["model"].items() if key not in of_kserve}
    patch = {"spec": {**pod, "containers": [{"name": "kserve-container", **container}]}}
    (tmp_path / "pod.json").write_text(json.dumps(base))
    done = server.kubectl(
        *("patch", "--local", "--type=strategic", "-o", "json"),
        *("-f", tmp_path / "pod.json", "-p", json.dumps(patch)),
    )
    merged: dict[str, Any] = json.loads(done.stdout)
    merged["spec"]["containers"][0]["args"] += predictor["model"].get("args", [])
    return merged


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param({"storage": "pvc://models/{model}/{version}"}, id="pvc"),
        pytest.param({"storage": STORAGE, "mode": "Serverless"}, id="serverless"),
        pytest.param(serving_variants.EVERYTHING, id="everything"),
    ],
)
def test_the_pods_are_restricted(server: ApiServer, tmp_path: Path, stated: dict[str, Any]) -> None:
    """Verify that the merged pod is valid and that Pod Security lets it into a namespace of level restricted."""
    pod = pod_of(
        server, tmp_path, {**stated, "priorityClass": "system-node-critical", "serviceAccount": "default"}
    )
    path = "/api/v1/namespaces/kserve-restricted/pods?fieldValidation=Strict&dryRun=All"
    made = server.request("POST", path, pod)
    container = made["spec"]["containers"][0]
    assert container["args"][:5] == [
        *(
            "--bundle",
            "/mnt/models",
            "--verify-key",
            "/etc/windlass/verify/verify.pem",
            "--require-signature",
        ),
    ]
    del pod["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(WindlassError, match=r"violates PodSecurity.*capabilities"):
        server.request("POST", path, pod)


def test_the_batch_jobs_pod_is_restricted(server: ApiServer) -> None:
    """Verify the same of the sample's Job, whose template Pod Security only warns about."""
    (job,) = yaml.safe_load_all((ROOT / "manifests/samples/kserve/batch.yaml").read_text())
    spec = {**job["spec"]["template"]["spec"], "priorityClassName": "system-node-critical"}
    pod = {"metadata": {"name": "score"}, "spec": spec}
    server.request("POST", "/api/v1/namespaces/kserve-restricted/pods?fieldValidation=Strict&dryRun=All", pod)


def test_a_key_of_ones_own_takes_the_place_of_the_runtimes(server: ApiServer, tmp_path: Path) -> None:
    """Verify that the server reads the stated key, and only that is mounted where it looks."""
    spec = pod_of(server, tmp_path, serving_variants.EVERYTHING)["spec"]
    mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes[mounts["/etc/windlass/verify"]]["secret"] == {"secretName": "keys"}
    assert spec["containers"][0]["args"].count("--verify-key") == 2  # and the last one wins
    assert volumes["tmp"]["emptyDir"] == {"sizeLimit": "2Gi"}
    assert spec["containers"][0]["startupProbe"]["failureThreshold"] == 300
    assert spec["containers"][0]["startupProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_what_stands_as_it_should_is_not_written_again(servers: Servers, api: KubernetesApi) -> None:
    """Verify that a second look writes nothing, and that an edit by hand is taken back."""
    first = servers.ensure("steady", "1")
    assert first.ready is None
    made = api.get(INFERENCE_SERVICE, NAMESPACE, "steady-1")
    budget = api.get(POD_DISRUPTION_BUDGET, NAMESPACE, "steady-1")
    assert made is not None and budget is not None
    assert budget["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    servers.ensure("steady", "1")
    again = api.get(INFERENCE_SERVICE, NAMESPACE, "steady-1")
    assert again is not None
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    def edit(live: dict[str, Any]) -> dict[str, Any]:
        changed = copy.deepcopy(live)
        changed["spec"]["predictor"]["model"]["storageUri"] = "s3://elsewhere"
        return changed

    api.update(INFERENCE_SERVICE, NAMESPACE, "steady-1", edit)
    servers.ensure("steady", "1")
    back = api.get(INFERENCE_SERVICE, NAMESPACE, "steady-1")
    assert back is not None
    assert back["spec"]["predictor"]["model"]["storageUri"] == "s3://models/steady/1/"
    assert servers.known("steady") == ("1",)


def test_options_that_change_change_the_servers(server: ApiServer, api: KubernetesApi) -> None:
    """Verify that a field that is no longer asked for goes, and the disruption budget of a single replica with it."""
    Servers(api, NAMESPACE, options(priorityClass="high")).ensure("changing", "1")
    Servers(api, NAMESPACE, options(scaling={"minReplicas": 1})).ensure("changing", "1")
    live = api.get(INFERENCE_SERVICE, NAMESPACE, "changing-1")
    assert live is not None and "priorityClassName" not in live["spec"]["predictor"]
    assert api.get(POD_DISRUPTION_BUDGET, NAMESPACE, "changing-1") is None


def say(server: ApiServer, name: str, status: dict[str, Any], kind: str = "InferenceService") -> None:
    """Write a status, as a controller does."""
    group, plural = ("serving.kserve.io/v1beta1", "inferenceservices")
    if kind == "Deployment":
        group, plural = ("apps/v1", "deployments")
    path = f"/apis/{group}/namespaces/{NAMESPACE}/{plural}/{name}"
    server.request("PUT", f"{path}/status", {**server.request("GET", path), "status": status})


READY = {
    "conditions": [{"type": "Ready", "status": "True"}, {"type": "PredictorReady", "status": "True"}],
    "modelStatus": {"transitionStatus": "UpToDate"},
}


def test_ready_is_what_runs_and_not_what_ran_before(
    server: ApiServer, api: KubernetesApi, servers: Servers
) -> None:
    """Verify that KServe's Ready counts once the Deployment is made from what was asked for last, and all of it is."""
    servers.ensure("rolling", "1")
    say(server, "rolling-1", READY)
    assert servers.readiness("rolling", "1").ready is None  # nothing runs

    def deploy(rendered: str) -> None:
        labels = {"app": "isvc.rolling-1-predictor"}
        template = {
            "metadata": {"labels": labels, "annotations": {"windlass.dev/rendered": rendered}},
            "spec": {"containers": [{"name": "kserve-container", "image": "windlass/serving:0.1.0"}]},
        }
        content = {"spec": {"selector": {"matchLabels": labels}, "template": template}}
        api.apply(DEPLOYMENT, NAMESPACE, "rolling-1-predictor", content)

    deploy("older")
    assert "has not passed on" in servers.readiness("rolling", "1").reason
    live = api.get(INFERENCE_SERVICE, NAMESPACE, "rolling-1")
    assert live is not None
    deploy(live["spec"]["predictor"]["annotations"]["windlass.dev/rendered"])
    assert "has not looked at generation 2" in servers.readiness("rolling", "1").reason
    say(
        server,
        "rolling-1-predictor",
        {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1},
        "Deployment",
    )
    assert "2 of 3 replicas" in servers.readiness("rolling", "1").reason
    say(
        server,
        "rolling-1-predictor",
        {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2},
        "Deployment",
    )
    assert "none of 1 replicas is ready" in servers.readiness("rolling", "1").reason
    say(
        server,
        "rolling-1-predictor",
        {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2},
        "Deployment",
    )
    assert servers.readiness("rolling", "1").ready is True
    assert servers.ensure("rolling", "1").ready is True


def test_a_pod_that_waits_for_its_image_is_told(server: ApiServer, servers: Servers) -> None:
    """Verify that what keeps a pod is read from the pod, where KServe's status only says that none is available."""
    servers.ensure("unpulled", "1")
    unavailable = {
        "reason": "MinimumReplicasUnavailable",
        "message": "Deployment does not have minimum availability.",
    }
    say(
        server,
        "unpulled-1",
        {
            "conditions": [
                {"type": t, "status": "False", **unavailable} for t in ("PredictorReady", "Ready")
            ],
            "modelStatus": {"transitionStatus": "InProgress"},
        },
    )
    waiting = servers.readiness("unpulled", "1")
    assert waiting.ready is None and "MinimumReplicasUnavailable" in waiting.reason
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    labels = {"serving.kserve.io/inferenceservice": "unpulled-1"}
    container = {"name": "kserve-container", "image": "windlass/serving:9"}
    pod = {"metadata": {"name": "unpulled", "labels": labels}, "spec": {"containers": [container]}}
    made = server.request("POST", pods, pod)
    pulling = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "windlass/serving:9"'}
    status = {
        "containerStatuses": [
            {**container, "imageID": "", "ready": False, "restartCount": 0, "state": {"waiting": pulling}}
        ]
    }
    server.request("PUT", f"{pods}/unpulled/status", {**made, "status": status})
    stuck = servers.readiness("unpulled", "1")
    assert stuck.ready is False
    assert 'ImagePullBackOff): Back-off pulling image "windlass/serving:9"' in stuck.reason


def route(version: str, weight: int) -> dict[str, Any]:
    refs = [
        {"name": "routed-1-predictor", "port": 80, "weight": 100},
        {"name": f"routed-{version}-predictor", "port": 80, "weight": weight},
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "somebodys-route"},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": refs}]},
    }


def test_servers_with_traffic_are_not_retired(
    server: ApiServer, api: KubernetesApi, servers: Servers
) -> None:
    """Verify that any route of the namespace keeps them, even at weight 0, and that they go without one."""
    servers.ensure("routed", "1")
    servers.ensure("routed", "2")
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
    server.request("POST", path, route("2", 0))
    with pytest.raises(RejectedError, match="HTTPRoute somebodys-route still names its Service"):
        servers.retire("routed", "2")
    assert servers.known("routed") == ("1", "2")
    server.request("DELETE", f"{path}/somebodys-route")
    for _ in range(2):
        servers.retire("routed", "2")
    assert servers.known("routed") == ("1",)
    assert api.get(POD_DISRUPTION_BUDGET, NAMESPACE, "routed-2") is None


def test_what_is_not_ours_is_left_alone(api: KubernetesApi, servers: Servers) -> None:
    """Verify that an InferenceService of the same name which somebody else made is neither taken over nor deleted."""
    document = inference_service.render("theirs", "1", options())[0]
    content = {"metadata": {"labels": {"team": "theirs"}}, "spec": document["spec"]}
    api.apply(INFERENCE_SERVICE, NAMESPACE, "theirs-1", content)
    for act in (servers.ensure, servers.retire):
        with pytest.raises(RejectedError, match="theirs-1 is not ours"):
            act("theirs", "1")
    assert api.get(INFERENCE_SERVICE, NAMESPACE, "theirs-1") is not None


def test_the_operators_rights_are_enough(server: ApiServer) -> None:
    """Verify that all of this is done with the Role of the operator, through its own service account."""
    documents = yaml.safe_load_all((ROOT / "manifests/base/operator.yaml").read_text())
    (rules,) = (document["rules"] for document in documents if document["kind"] == "Role")
    account = {"kind": "ServiceAccount", "name": "least", "namespace": NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "least"}
    for group, plural, content in (
        ("api/v1", "serviceaccounts", {}),
        ("apis/rbac.authorization.k8s.io/v1", "roles", {"rules": rules}),
        ("apis/rbac.authorization.k8s.io/v1", "rolebindings", {"roleRef": role, "subjects": [account]}),
    ):
        document = {"metadata": {"name": "least"}, **content}
        server.request("POST", f"/{group}/namespaces/{NAMESPACE}/{plural}", document)
    rights_in_force(server, NAMESPACE)
    kubeconfig = server.kubeconfig_for_service_account(NAMESPACE, "least")
    servers = Servers(KubernetesApi.connect(kubeconfig, timeout_s=30.0), NAMESPACE, options())
    servers.ensure("least", "1")
    say(server, "least-1", {**READY, "conditions": [{"type": "Ready", "status": "False"}]})
    assert servers.ensure("least", "1").ready is None  # the pods were asked for
    say(server, "least-1", READY)
    assert "nothing that runs" in servers.readiness("least", "1").reason  # and the Deployment
    assert servers.known("least") == ("1",)
    servers.retire("least", "1")
    assert servers.known("least") == ()
