"""Values that switch every part of the chart on, and use every way to say something."""

from __future__ import annotations

from typing import Any

DIGEST = "sha256:" + 64 * "a"

EVERYTHING: dict[str, Any] = {
    "commonLabels": {"team": "flights"},
    "imageRegistry": "registry.example.com/mirror",
    "imagePullSecrets": ["pull"],
    "scheduling": {
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "ml", "operator": "Exists", "effect": "NoSchedule"}],
    },
    "models": {
        "storageSecret": "models-s3",
        "verifyKey": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n",
    },
    "kubeflow": {
        "pipelineConfigMap": "pipeline",
        "tokenAudience": "pipelines.kubeflow.org",
        "runNamespace": "team",
        "serviceAccount": "runner",
    },
    "objectStore": {
        "url": "s3://bucket/windlass",
        "endpoint": "http://minio.minio:9000",
        "region": "eu-central-1",
        "existingSecret": "s3",
    },
    "gateway": {"create": True, "createClass": True, "tlsSecret": "cert", "hostname": "models.example.com"},
    "operator": {
        "image": {"digest": DIGEST},
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
        "podAnnotations": {"a": "b"},
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "topology.kubernetes.io/zone",
                            "labelSelector": {"matchLabels": {"a": "b"}},
                        },
                    }
                ]
            }
        },
        "serving": {
            "storage": "s3://models/{model}/{version}",
            "models": {"flights": {"scaling": {"minReplicas": 3, "maxReplicas": 12}}},
        },
    },
    "collector": {"privacyKeySecret": "privacy", "args": ["--only-known-models"]},
    "analysis": {"metrics": True},
    "mlflow": {
        "url": "",
        "enabled": True,
        "databaseSecret": "database",
        "allowedHosts": ["mlflow.example.com"],
    },
    "redis": {"enabled": True},
    "featureServer": {"enabled": True, "registry": "s3://bucket/windlass/registry.db"},
    "ray": {"enabled": True},
    "monitoring": {
        "serviceMonitors": True,
        "rules": True,
        "dashboards": True,
        "labels": {"release": "kube-prometheus-stack"},
    },
    "networkPolicies": {"callers": ["shop"]},
    "limits": {"quota": {"requests.cpu": "64"}, "containerDefaults": {"enabled": True}},
}
