"""A bundle signed by the library, and its keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components import signing
from serving.runtime.trust.verify import Policy
from windlass.settings import Settings

FILES = {
    "model.onnx": b"\x08\x0a" + bytes(range(256)) * 3,
    "fallback/model.txt": b"tree\nversion=v4\nnum_class=1\n",
    "reference.json": b'{"inputs": {}}\n',
}


def write(folder: Path, files: dict[str, bytes], **document: object) -> Path:
    """A bundle of `files`, all of them named by its document."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    folder.mkdir(exist_ok=True)
    (folder / "serving.json").write_text(
        json.dumps({"model": "m", "version": "1", "sha256": digests} | document)
    )
    return folder


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Write an unsigned bundle; any key of the document may be replaced."""
    return lambda files=FILES, **document: write(tmp_path / "bundle", files, **document)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> signing.Keys:
    home = tmp_path_factory.mktemp("keys-home")
    return signing.keys(Settings(home=home, project=home), {})


@pytest.fixture
def signed(make: Callable[..., Path], keys: signing.Keys) -> Path:
    folder = make()
    signing.sign(folder, keys)
    return folder


@pytest.fixture
def policy(keys: signing.Keys) -> Policy:
    return Policy(verify_key=keys.public, require_signature=True)
