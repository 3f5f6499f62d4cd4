"""Kubeconfigs: who a client is, and which server it trusts, in one file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.certificates import Pair


def certified(pair: Pair) -> dict[str, str]:
    """The user of a kubeconfig that is known by a client certificate."""
    return {"client-certificate-data": _text(pair.certificate), "client-key-data": _text(pair.key)}


def write(file: Path, url: str, authority: bytes, name: str, user: Mapping[str, str]) -> None:
    """Write a kubeconfig, readable by its owner alone.

    Args:
        file: where.
        url: the API server's.
        authority: the certificate (PEM) that the server's is checked with.
        name: what the user is called in the file.
        user: how the server is to know the user, as `certified` says or {"token": …}.
    """
    cluster = {"server": url, "certificate-authority-data": _text(authority)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": name, "user": dict(user)}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        "current-context": "test",
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(document))  # JSON is YAML


def _text(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
