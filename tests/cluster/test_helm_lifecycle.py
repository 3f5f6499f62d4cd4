"""helm installs, upgrades, rolls back and uninstalls on a real API server; what it leaves is what the page says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest

from manifests.generate import CHART
from tests.cluster import go_modules
from tests.cluster.api_server import ApiServer, established, rights_in_force
from tests.cluster.operator_stage import eventually
from tests.cluster.tools.build import BUILD_S, module_dir, tool

pytestmark = pytest.mark.timeout(2 * BUILD_S)

NAMESPACE = "lifecycle"
DEV = CHART / "values-dev.yaml"
KINDS = (
    "deployments,statefulsets,cronjobs,services,configmaps,secrets,serviceaccounts,persistentvolumeclaims,"
    "roles,rolebindings,networkpolicies,poddisruptionbudgets,resourcequotas,limitranges"
)
CLUSTER_KINDS = "customresourcedefinitions,priorityclasses,clusterservingruntimes"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With KServe's definition of the runtimes, the Prometheus Operator's, and nothing of ours."""
    kserve = module_dir("github.com/kserve/kserve") / "config/crd/full"
    prometheus = go_modules.folder(*go_modules.PROMETHEUS_OPERATOR) / "example/prometheus-operator-crd"
    files = [
        kserve / "serving.kserve.io_clusterservingruntimes.yaml",
        *(
            prometheus / f"monitoring.coreos.com_{kind}.yaml"
            for kind in ("servicemonitors", "podmonitors", "prometheusrules")
        ),
    ]
    with ApiServer(tmp_path_factory.mktemp("api-server")) as found:
        found.kubectl("apply", "--server-side", *(word for file in files for word in ("-f", file)))
        established(found)
        found.kubectl("create", "namespace", NAMESPACE)
        yield found


def helm(server: ApiServer, *words: str | Path, where: str = NAMESPACE) -> str:
    command: list[str | Path] = [
        tool("helm"),
        *words,
        "--namespace",
        where,
        "--kubeconfig",
        server.kubeconfig,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ours(server: ApiServer) -> dict[tuple[str, str], dict[str, Any]]:
    """What is there of ours, by kind and name."""
    namespaced = server.kubectl("get", KINDS, "-n", NAMESPACE, "-o", "json").stdout
    cluster = server.kubectl("get", CLUSTER_KINDS, "-o", "json").stdout
    items = json.loads(namespaced)["items"] + json.loads(cluster)["items"]
    found = {(item["kind"], item["metadata"]["name"]): item for item in items}
    return {
        key: item
        for key, item in found.items()
        if "windlass" in key[1] and not key[1].startswith("sh.helm.release")
    }


def test_a_release_comes_changes_goes_back_and_goes(server: ApiServer) -> None:
    """Verify each of helm's verbs by the objects themselves."""
    helm(server, "install", "windlass", CHART, "--values", DEV, "--set", "retrain.volume.keep=true")
    installed = ours(server)
    operator = ("Deployment", "windlass-operator")
    assert installed[operator]["spec"]["replicas"] == 1

    helm(
        server, "upgrade", "windlass", CHART, "--values", DEV,
        "--set", "retrain.volume.keep=true,operator.replicas=3,operator.image.tag=0.2.0",
        "--set", "redis.enabled=false,features.enabled=false",
    )  # fmt: skip
    upgraded = ours(server)
    assert upgraded[operator]["spec"]["replicas"] == 3
    assert {key for key in installed if key not in upgraded} == {
        (kind, "windlass-redis") for kind in ("Deployment", "Service", "ServiceAccount", "NetworkPolicy")
    } | {("Secret", "windlass-online-store"), ("CronJob", "windlass-materialize-flights")} | {
        (kind, "windlass-materialize") for kind in ("ServiceAccount", "NetworkPolicy")
    }
    # what did not change is not touched, so nothing of it restarts
    trigger = ("StatefulSet", "windlass-collector")
    assert upgraded[trigger]["metadata"]["generation"] == installed[trigger]["metadata"]["generation"]

    helm(server, "rollback", "windlass", "1")
    back = ours(server)
    assert back.keys() == installed.keys()
    assert back[operator]["spec"]["template"] == installed[operator]["spec"]["template"]

    helm(server, "uninstall", "windlass")
    left = set(ours(server))
    assert not deleting(server, "windlass-retrain-home")
    assert left == {
        ("CustomResourceDefinition", "releases.windlass.dev"),
        ("CustomResourceDefinition", "releasejournals.windlass.dev"),
        ("CustomResourceDefinition", "retrainpolicies.windlass.dev"),
        # what other namespaces stand on as well
        *(("PriorityClass", f"windlass-{name}") for name in ("serving", "control", "batch")),
        *(("ClusterServingRuntime", name) for name in ("windlass", "windlass-serverless")),
        ("PersistentVolumeClaim", "windlass-retrain-home"),
        *((kind, name) for kind, name in left if kind == "PersistentVolumeClaim" and deleting(server, name)),
    }


def test_what_belongs_to_the_cluster_outlives_the_namespace_that_brought_it(server: ApiServer) -> None:
    """Verify the ways that are written down: the same release finds its own, another must say that it takes it."""

    def shared() -> set[tuple[str, str]]:
        kinds = ("CustomResourceDefinition", "PriorityClass", "ClusterServingRuntime")
        return {key for key in ours(server) if key[0] in kinds}

    def owner(name: str) -> str:
        found = json.loads(server.kubectl("get", "priorityclass", name, "-o", "json").stdout)
        return str(found["metadata"]["annotations"]["meta.helm.sh/release-namespace"])

    # the three that team-b says no more
    others = "crds.install=false,priorityClasses.create=false,servingRuntime.create=false"
    server.kubectl("create", "namespace", "team-b")
    helm(server, "install", "windlass", CHART, "--values", DEV)
    helm(server, "install", "windlass", CHART, "--values", DEV, "--set", others, where="team-b")
    helm(server, "uninstall", "windlass")
    assert len(shared()) == 8 and owner("windlass-serving") == NAMESPACE
    helm(server, "install", "windlass", CHART, "--values", DEV)
    helm(server, "uninstall", "windlass")
    taken = ("upgrade", "windlass", CHART, "--values", DEV)
    with pytest.raises(AssertionError, match="invalid ownership metadata"):
        helm(server, *taken, where="team-b")
    helm(server, *taken, "--take-ownership", where="team-b")
    assert owner("windlass-serving") == "team-b"
    gone = "crds.keep=false,priorityClasses.keep=false,servingRuntime.keep=false"
    helm(server, *taken, "--set", gone, where="team-b")
    helm(server, "uninstall", "windlass", where="team-b")
    # a definition goes once the server has deleted its objects
    eventually(lambda: shared() == set(), "nothing is left")


def deleting(server: ApiServer, claim: str) -> bool:
    """Whether a claim only waits for the controller that lets go of it; there is none here."""
    found = json.loads(server.kubectl("get", "pvc", claim, "-n", NAMESPACE, "-o", "json").stdout)
    return "deletionTimestamp" in found["metadata"]


# --- what `helm test` runs


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("helm_check", CHART / "files" / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page() -> Iterator[str]:
    """A server that answers /good and nothing else."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/good" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as found:
        Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_the_check_asks_each_part(check: ModuleType, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify that one part that does not answer fails it, and is named."""
    assert check.main([f"--answers={page}/good"]) == 0
    assert check.main([f"--answers={page}/good", f"--answers={page}/bad", "--within", "0.1"]) == 1
    said = capsys.readouterr().out
    assert f"ok   {page}/good: answers" in said and f"FAIL {page}/bad: HTTP Error 503" in said


def test_the_check_tries_a_release_as_its_own_account(check: ModuleType, api_server: ApiServer) -> None:
    """Verify that its account may try the sample, a good Release, that nothing is kept, and what a refusal is."""
    where = "helm-test"
    api_server.kubectl("create", "namespace", where)
    text = subprocess.run(
        [tool("helm"), "template", "windlass", CHART, "-n", where, "-s", "templates/tests/check.yaml"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # the Pod's priority class is the chart's as well; what counts here is its account
    parts = [part for part in text.split("---\n") if "kind: Pod\n" not in part]
    api_server.kubectl("apply", "-f", "-", given="---\n".join(parts))
    rights_in_force(api_server, where)
    config = json.loads(
        api_server.kubectl(
            "config", "view", "--raw", "-o", "json",
            kubeconfig=api_server.kubeconfig_for_service_account(where, "windlass-test"),
        ).stdout
    )  # fmt: skip
    token = config["users"][0]["user"]["token"]
    trusted = api_server.certificate_authority

    def tried() -> tuple[bool, str]:
        found: tuple[bool, str] = check.release_is_taken(api_server.url, token, trusted, where)
        return found

    assert tried() == (True, "a Release is taken")
    assert "No resources found" in api_server.kubectl("get", "releases", "-n", where).stderr
    check.SAMPLE["spec"]["candidate"] = check.SAMPLE["spec"]["champion"]
    fine, said = tried()
    assert not fine and said.startswith("a Release is refused: ")
    api_server.kubectl("delete", "rolebinding", "windlass-test", "-n", where)
    rights_in_force(api_server, where)
    fine, said = tried()
    assert not fine and "cannot create resource" in said
