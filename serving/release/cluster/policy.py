"""The script that puts units into buckets, as Envoy Gateway's EnvoyExtensionPolicy on our HTTPRoute.

Envoy Gateway runs it in the listener for this route's requests only, and Envoy picks the route again once the header
is there. From Envoy Gateway 1.9 on such scripts are off until its configuration says
`extensionApis: {enableLua: true}`; its refusal then arrives as the policy's condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.release.cluster import naming
from serving.release.envoy import lua as envoy_lua
from serving.release.traffic import Assignment, Unit


def manifest(model: str, assignment: Assignment, route: str) -> dict[str, Any]:
    """Metadata and spec of the policy of the HTTPRoute `route`; the same for every move of buckets."""
    return {
        "metadata": {"labels": {**naming.MANAGED_BY, naming.MODEL_LABEL: model}},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": route}],
            "lua": [{"type": "Inline", "inline": envoy_lua.script(assignment.unit, assignment.salt)}],
        },
    }


def read(policy: Mapping[str, Any] | None, route: str) -> tuple[Unit, str] | None:
    """Unit and salt that a live policy of the HTTPRoute `route` assigns by; None where there is none, or one that is
    not ours."""
    if policy is None:
        return None
    spec = policy["spec"]
    target = [(ref.get("kind"), ref.get("name")) for ref in spec.get("targetRefs", ())]
    scripts = spec.get("lua", ())
    if target != [("HTTPRoute", route)] or len(scripts) != 1:
        return None
    return envoy_lua.assigned_by(scripts[0].get("inline", ""))
