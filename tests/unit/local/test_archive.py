"""Logs reach the object store that the settings name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from windlass.errors import WindlassError
from windlass.local import archive
from windlass.settings import Settings


def logs(home: Path) -> Settings:
    settings = Settings(home=home, project=home)
    (settings.logs_dir / "predictions").mkdir(parents=True)
    (settings.logs_dir / "predictions" / "flights-1.jsonl").write_text('{"request_id":"a"}\n')
    settings.journal_dir.mkdir()
    (settings.journal_dir / "triggers.jsonl").write_text("{}\n")
    return settings


def test_logs_and_journals_are_uploaded_once_and_again_when_they_grew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify against a real S3 protocol server that nothing is sent twice and nothing is left behind."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "someone"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="logs-test")
    settings = replace(
        logs(tmp_path / "h"), object_store="s3://logs-test/here", s3_endpoint=f"http://{host}:{port}"
    )
    assert archive.publish_logs(settings) == 2
    assert archive.publish_logs(settings) == 0
    with (settings.logs_dir / "predictions" / "flights-1.jsonl").open("a") as file:
        file.write('{"request_id":"b"}\n')
    assert archive.publish_logs(settings) == 1
    stored = client.get_object(Bucket="logs-test", Key="here/logs/predictions/flights-1.jsonl")["Body"].read()
    assert stored.count(b"\n") == 2
    server.stop()


def test_without_an_object_store_nothing_is_sent(tmp_path: Path) -> None:
    """Verify that the default keeps everything on disk."""
    assert archive.publish_logs(logs(tmp_path / "h")) == 0


def test_an_object_store_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that the error says what could not be reached, and the logs stay."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "someone"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    settings = replace(logs(tmp_path / "h"), object_store="s3://gone/x", s3_endpoint="http://127.0.0.1:9")
    with pytest.raises(WindlassError, match="gone"):
        archive.publish_logs(settings)
    assert (settings.journal_dir / "triggers.jsonl").read_text() == "{}\n"
