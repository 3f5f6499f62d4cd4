"""A real S3 endpoint on loopback: moto's server, with credentials that it takes and a bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Yield the address of a server of its own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket(endpoint: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a bucket, or find it there; its credentials stand in the environment for as long as the test runs."""
    import boto3

    for variable, value in (
        ("AWS_ACCESS_KEY_ID", "someone"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(variable, value)
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
