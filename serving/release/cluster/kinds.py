"""Kinds of objects that we speak to an API server about, and where it keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Kind:
    """A namespaced kind of object; the group of the oldest ones is empty."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Of an object, of a part of it (`status`), or, without a name, of all in the namespace."""
        root = "apis" if self.group else "api"
        parts = [f"/{root}/{self.api_version}/namespaces", quote(namespace), self.plural]
        return "/".join(parts + [quote(part) for part in (name, subresource) if part])

    def named(self, namespace: str, name: str = "") -> str:
        """For a message."""
        return f"{self.kind} {namespace}/{name}" if name else f"{self.plural} of namespace {namespace}"


HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
ENVOY_EXTENSION_POLICY = Kind(
    "gateway.envoyproxy.io", "v1alpha1", "envoyextensionpolicies", "EnvoyExtensionPolicy"
)
INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
REVISION = Kind("serving.knative.dev", "v1", "revisions", "Revision")
RELEASE = Kind("windlass.dev", "v1alpha1", "releases", "Release")
RETRAIN_POLICY = Kind("windlass.dev", "v1alpha1", "retrainpolicies", "RetrainPolicy")
RELEASE_JOURNAL = Kind("windlass.dev", "v1alpha1", "releasejournals", "ReleaseJournal")
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
EVENT = Kind("events.k8s.io", "v1", "events", "Event")
