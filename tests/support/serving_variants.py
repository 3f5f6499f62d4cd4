"""Serving options of every kind, for tests that ask somebody else what is made of them."""

from __future__ import annotations

from typing import Any

STORAGE = "s3://models/{model}/{version}"

EVERYTHING: dict[str, Any] = {
    "storage": STORAGE,
    "image": "registry.example/windlass/serving@sha256:" + 64 * "a",
    "imagePullSecrets": ["pull"],
    "serviceAccount": "windlass-models",
    "storageContainer": "windlass-restricted",
    "workers": 4,
    "resources": {"cpu": "2", "memory": "2Gi", "cpuLimit": "4", "memoryLimit": "3Gi"},
    "online": {"secret": "windlass-online-store"},
    "payload": {"url": "http://windlass-collector:8088/", "mode": "response"},
    "verifyKey": {"secret": "keys", "key": "own.pem"},
    "priorityClass": "windlass-serving",
    "tmp": "2Gi",
    "startSeconds": 600,
    "stopSeconds": 30,
    "arguments": ["--deadline-ms", "200"],
    "environment": [{"name": "A", "value": "1"}, {"name": "B", "secret": {"secret": "s", "key": "k"}}],
    "nodeSelector": {"pool": "serving"},
    "tolerations": [{"key": "serving", "operator": "Exists", "effect": "NoSchedule"}],
}
KEDA: dict[str, Any] = {
    "scaler": "keda",
    "metric": "concurrency",
    "prometheus": "http://prometheus.monitoring:9090",
    "authentication": "prometheus",
    "labels": {"cluster": "east"},
}

STATED: dict[str, dict[str, Any]] = {
    "s3": {"storage": STORAGE},
    "pvc": {"storage": "pvc://models/{model}/{version}"},
    "oci": {"storage": "oci+native://registry.example/{model}:{version}"},
    "hpa-memory": {"storage": STORAGE, "scaling": {"metric": "memory", "target": 80}},
    "keda-concurrency": {"storage": STORAGE, "scaling": KEDA},
    "fixed": {"storage": STORAGE, "scaling": {"scaler": "none", "minReplicas": 3}},
    "serverless-to-zero": {"storage": STORAGE, "mode": "Serverless", "scaling": {"minReplicas": 0}},
    "kserve-logger": {"storage": STORAGE, "payload": {"url": "http://collector/", "sender": "kserve"}},
    "everything": EVERYTHING,
}
