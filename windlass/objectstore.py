"""Files on S3: the only importer of boto3.

Addresses and credentials come from outside: the bucket and prefix from `WINDLASS_OBJECT_STORE`, another endpoint than
the provider's from `WINDLASS_S3_ENDPOINT`, credentials and region from the usual AWS environment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from windlass import atomic
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

ABSENT = ("404", "NoSuchKey", "NotFound")
BUNDLES = "models"
"""Where the serving bundles of registered versions lie: `models/<model>/<version>/…`; the chart says the same."""


def bundle_prefix(model: str, version: str) -> str:
    """Where all of a version's bundle lies, with the slash: without it version 1 would begin the keys of version 12."""
    return f"{BUNDLES}/{model}/{version}/"


class ObjectStore:
    """Objects under the prefix that the settings name; `key` is relative to it.

    Raises:
        UsageError: no object store is set, or its address names no bucket.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.object_store is None:
            raise UsageError("no object store is set; set WINDLASS_OBJECT_STORE=s3://bucket/prefix")
        self._bucket, _, self._prefix = settings.object_store.removeprefix("s3://").partition("/")
        if not self._bucket:
            raise UsageError(
                f"WINDLASS_OBJECT_STORE={settings.object_store!r} names no bucket; use s3://bucket/prefix"
            )
        self._endpoint = settings.s3_endpoint
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"})
        # a session of its own: boto3's default one keeps the first credentials it saw
        session = boto3.session.Session()
        self._client: Any = session.client("s3", endpoint_url=settings.s3_endpoint, config=config)

    def address(self, key: str) -> str:
        """The full address of a key, for people."""
        return f"s3://{self._bucket}/{self._key(key)}"

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        import botocore.exceptions

        with self._explained("look for", key):
            try:
                self._client.head_object(Bucket=self._bucket, Key=self._key(key))
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in ABSENT:
                    return False
                raise
        return True

    def upload(self, path: Path, key: str) -> None:
        """Put a file there; S3 shows it only when it is complete."""
        with self._explained("upload", key):
            self._client.upload_file(str(path), self._bucket, self._key(key))

    def download(self, key: str, path: Path) -> None:
        """Get an object into a file, all or nothing."""
        with atomic.replacing(path) as temporary, self._explained("download", key):
            self._client.download_file(self._bucket, self._key(key), str(temporary))

    def read(self, key: str) -> bytes:
        """Return the content of a small object."""
        with self._explained("read", key):
            content: bytes = self._client.get_object(Bucket=self._bucket, Key=self._key(key))["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        """Replace a small object; a reader sees the old content or the new one."""
        with self._explained("write", key):
            self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=content)

    def remove(self, key: str) -> None:
        """Remove an object; none is as good."""
        with self._explained("remove", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in order."""
        for key, _ in self.sizes(prefix):
            yield key

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield the keys that begin with `prefix`, in order, each with its object's bytes."""
        start = f"{self._prefix}/" if self._prefix else ""
        with self._explained("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start + prefix
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield str(item["Key"]).removeprefix(start), int(item["Size"])

    def sync_up(self, folder: Path, prefix: str) -> int:
        """Upload every file of a folder that is not there in the same size; return how many were uploaded."""
        sent = 0
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            if self._size(key) != path.stat().st_size:
                self.upload(path, key)
                sent += 1
        return sent

    def sync_down(self, prefix: str, folder: Path) -> int:
        """Download every object under a prefix that the folder lacks in the same size; return how many."""
        got = 0
        for key in list(self.keys(f"{prefix}/")):
            path = folder / key.removeprefix(f"{prefix}/")
            if not path.resolve().is_relative_to(folder.resolve()):
                raise WindlassError(
                    f"{self.address(key)} would be written outside {folder}; remove that object"
                )
            if not path.is_file() or self._size(key) != path.stat().st_size:
                self.download(key, path)
                got += 1
        return got

    def _size(self, key: str) -> int | None:
        import botocore.exceptions

        with self._explained("look for", key):
            try:
                size: int = self._client.head_object(Bucket=self._bucket, Key=self._key(key))["ContentLength"]
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in ABSENT:
                    return None
                raise
        return size

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    @contextlib.contextmanager
    def _explained(self, act: str, key: str) -> Iterator[None]:
        """Turn what the client raises into an error that names the address, the cause and the remedy."""
        import boto3.exceptions
        import botocore.exceptions

        failures = (
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
            boto3.exceptions.Boto3Error,
        )
        try:
            yield
        except failures as error:
            at = f" at {self._endpoint}" if self._endpoint else ""
            raise WindlassError(f"cannot {act} {self.address(key)}{at}: {error}; {_remedy(error)}") from error


def _remedy(error: Exception) -> str:
    text = f"{type(error).__name__} {error}"
    if any(
        word in text
        for word in ("Credential", "Denied", "Forbidden", "SignatureDoesNotMatch", "InvalidAccessKey")
    ):
        return (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to an account that may read and write there; a pipeline's "
            "pods have them from the Secret windlass-s3 of their namespace"
        )
    if "NoSuchBucket" in text:
        return "create the bucket, or name another in WINDLASS_OBJECT_STORE"
    if "EndpointConnection" in text or "Connect" in text or "Timeout" in text:
        return "check that WINDLASS_S3_ENDPOINT answers"
    return "check WINDLASS_OBJECT_STORE and WINDLASS_S3_ENDPOINT"
