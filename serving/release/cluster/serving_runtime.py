"""What all our model servers on KServe have in common: the ClusterServingRuntimes `windlass` and `windlass-serverless`.

KServe starts `serving.runtime` (docker/serving.Dockerfile) on the bundle that it fetched to /mnt/models, and adds the
arguments of the InferenceService to these. A bundle must be signed by the key in the ConfigMap `windlass-verify-key`
of its namespace; nothing can switch that off here.

Two, because Knative takes one port only and no lifecycle hook, and in Standard mode both are needed: gRPC, and a pause
before SIGTERM. A replica that is taken away stays in the proxies' lists for a moment; through the pause it still
answers, and the server's own drain (docs/serving.md) ends what is then still in flight.
"""

from __future__ import annotations

from typing import Any

from serving.release.cluster.serving_options import VERIFY_KEY, VERIFY_KEY_FILE

Document = dict[str, Any]

IMAGE = "windlass/serving:0.1.0"
MODEL_FORMAT = "windlass"
NAMES = {"Standard": "windlass", "Serverless": "windlass-serverless"}
#: Of the image, and of every file that a volume brings.
USER = 65532
HTTP_PORT = 8080
GRPC_PORT = 8081
MODEL_FOLDER = "/mnt/models"
KEY_FOLDER = "/etc/windlass/verify"
TMP = "tmp"
TMP_SIZE = "512Mi"
START_SECONDS = 120
STOP_SECONDS = 10

_PROBE_SECONDS = 2


def documents(image: str = IMAGE) -> list[Document]:
    """Both runtimes.

    Args:
        image: of the model server; by digest in production.
    """
    return [_runtime("Standard", image), _runtime("Serverless", image)]


def attempts(seconds: int) -> int:
    """How often the start-up probe may fail before a start has taken `seconds`."""
    return -(-seconds // _PROBE_SECONDS)


def _runtime(mode: str, image: str) -> Document:
    standard = mode == "Standard"
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {
            "name": NAMES[mode],
            "labels": {"app.kubernetes.io/name": "windlass-serving", "app.kubernetes.io/part-of": "windlass"},
        },
        "spec": {
            # Not prometheus.io/scrape: KServe copies it to the Service too, and a Prometheus that follows both would
            # count every request twice. Pods are selected by label, see docs/kserve.md.
            "annotations": {
                "prometheus.kserve.io/port": str(HTTP_PORT),
                "prometheus.kserve.io/path": "/metrics",
            },
            "labels": {"app.kubernetes.io/name": "windlass-serving", "app.kubernetes.io/part-of": "windlass"},
            "supportedModelFormats": [
                {
                    "name": MODEL_FORMAT,
                    "version": "1",
                    **({"autoSelect": True, "priority": 1} if standard else {}),
                }
            ],
            "protocolVersions": ["v1", "v2", "grpc-v2"] if standard else ["v1", "v2"],
            "multiModel": False,
            "containers": [_container(standard, image)],
            "volumes": [
                # optional, so that a server without it says so itself, where InferenceServices show it
                {"name": VERIFY_KEY, "configMap": {"name": VERIFY_KEY, "optional": True}},
                {"name": TMP, "emptyDir": {"sizeLimit": TMP_SIZE}},
            ],
        },
    }


def _container(standard: bool, image: str) -> Document:
    arguments = [
        "--bundle", MODEL_FOLDER,
        "--verify-key", f"{KEY_FOLDER}/{VERIFY_KEY_FILE}",
        "--require-signature",
    ]  # fmt: skip
    ports = [{"name": "http1", "containerPort": HTTP_PORT, "protocol": "TCP"}]
    if standard:
        arguments += ["--grpc-port", str(GRPC_PORT)]
        ports.append({"name": "h2c", "containerPort": GRPC_PORT, "protocol": "TCP"})
    container: Document = {
        "name": "kserve-container",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "ports": ports,
        # Patient, both: a server that is busy answers late, and under a load that is too much for all replicas neither
        # taking them out one after the other nor starting them anew helps anybody. An end is told without a probe.
        "readinessProbe": {
            **_get("/v2/health/ready"),
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            **_get("/v2/health/live"),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        # nothing listens before every bundle is verified, loaded and measured
        "startupProbe": {
            **_get("/v2/health/live"),
            "periodSeconds": _PROBE_SECONDS,
            "failureThreshold": attempts(START_SECONDS),
        },
        # then an InferenceService's status tells why a server does not start
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": VERIFY_KEY, "mountPath": KEY_FOLDER, "readOnly": True},
            # keras, pyfunc and tl2cgen run from files, which are the verified bytes written here
            {"name": TMP, "mountPath": "/tmp"},  # noqa: S108 - the container's own
        ],
    }
    if standard:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": STOP_SECONDS}}}
    return container


def _get(path: str) -> Document:
    return {"httpGet": {"path": path, "port": HTTP_PORT, "scheme": "HTTP"}, "timeoutSeconds": 2}
