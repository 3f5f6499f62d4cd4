"""Which files a bundle may consist of."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from components import signing
from serving.runtime.trust import files
from serving.runtime.trust.verify import Policy, verify
from windlass.errors import UsageError

Make = Callable[..., Path]


def bind(path: Path) -> None:
    # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(path.parent)
        try:
            listener.bind(path.name)
        finally:
            os.chdir(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda f: (f / "x").symlink_to("/etc/passwd"), "'x' lies outside", id="link"),
        pytest.param(lambda f: (f / "x").symlink_to("model.onnx"), "'x' lies outside", id="link-inside"),
        pytest.param(lambda f: (f / "x").symlink_to("gone"), "'x' lies outside", id="link-to-nothing"),
        pytest.param(
            lambda f: (f / "fallback/x").symlink_to("/etc"), "'fallback/x' lies", id="link-to-a-folder"
        ),
        pytest.param(lambda f: os.mkfifo(f / "x"), "'x' is neither a file nor a folder", id="pipe"),
        pytest.param(lambda f: bind(f / "x"), "'x' is neither a file nor a folder", id="socket"),
        pytest.param(lambda f: (f / "a\nb").touch(), r"'a\\nb' is no name", id="line-break-in-a-name"),
        pytest.param(lambda f: (f / "a\\b").touch(), "is no name", id="backslash-in-a-name"),
        pytest.param(
            lambda f: Path(os.fsdecode(bytes(f) + b"/\xff")).touch(), "is no name", id="name-of-bytes"
        ),
    ],
)
def test_what_is_no_file_of_a_bundle_is_refused(
    make: Make, change: Callable[[Path], object], message: str
) -> None:
    """Verify that nothing is followed out of the folder, and nothing is opened that may block."""
    folder = make()
    change(folder)
    with pytest.raises(UsageError, match=message) as refusal:
        verify(folder, Policy())
    assert str(folder) in str(refusal.value)


def test_the_folder_itself_may_be_a_link(make: Make, tmp_path: Path) -> None:
    """Verify that a deployment may point to a version by a link."""
    (tmp_path / "current").symlink_to(make())
    assert verify(tmp_path / "current", Policy()).folder == tmp_path / "bundle"


def test_a_file_exchanged_for_something_else_is_refused(make: Make) -> None:
    """Verify that a pipe or a link that came after the listing neither blocks nor is followed."""
    folder = make()
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(UsageError, match=r"'model\.onnx' is neither a file nor a folder"):
        files.read(folder, "model.onnx")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("reference.json")
    with pytest.raises(UsageError, match=r"cannot read 'model\.onnx'"):
        files.read(folder, "model.onnx")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        pytest.param({"most_files": 3}, "it has more than 3 files", id="files"),
        pytest.param({"most_file_bytes": 769}, r"'model\.onnx' is larger than 769 bytes", id="one-file"),
        pytest.param({"most_bytes": 800}, r"its files exceed 800 bytes", id="all-files"),
    ],
)
def test_a_bundle_has_a_size(make: Make, limit: dict[str, int], message: str) -> None:
    """Verify that a folder that fills the memory is refused, and one at its limits is not."""
    folder = make()
    total = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    exact = Policy(most_files=4, most_file_bytes=770, most_bytes=total)
    assert len(verify(folder, exact).files) == 4
    with pytest.raises(UsageError, match=message):
        verify(folder, replace(Policy(), **limit))


def test_a_large_file_is_never_read(make: Make) -> None:
    """Verify that a sparse file of a terabyte is refused by its size."""
    folder = make()
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match=r"'weights\.bin' is larger than"):
        verify(folder, Policy())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("evil.py", b"", id="python"),
        pytest.param("fallback/evil.pyc", b"", id="bytecode"),
        pytest.param("model.so", b"", id="library"),
        pytest.param("libm.so.6", b"", id="versioned-library"),
        pytest.param("weights.bin", b"\x7fELF\x02", id="library-by-another-name"),
        pytest.param("start", b"#!/bin/sh\n", id="script"),
    ],
)
def test_code_that_no_document_names_is_refused(make: Make, name: str, content: bytes) -> None:
    """Verify that code is loaded on purpose or not at all."""
    stated = verify(make({name: content, "model.onnx": b"x"}), Policy())
    assert name in stated.files
    shutil.rmtree(stated.folder)
    folder = make({"model.onnx": b"x"})
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"'{name}' is code that no serving.json names"):
        verify(folder, Policy())


def test_a_bundle_inside_names_its_own_code(make: Make) -> None:
    """Verify that a fallback's or a member's document speaks for its folder and no other."""
    folder = make()
    (folder / "fallback" / "serving.json").write_text('{"sha256": {"ratios.py": "0"}}')
    (folder / "fallback" / "ratios.py").touch()
    assert "fallback/ratios.py" in verify(folder, Policy()).files
    (folder / "ratios.py").touch()
    with pytest.raises(UsageError, match=r"'ratios\.py' is code"):
        verify(folder, Policy())


PICKLE = {"model.bin": pickle.dumps([1.0])}


@pytest.mark.parametrize(
    ("declared", "allowed", "message"),
    [
        pytest.param({}, True, r"'model\.bin' is a pickle and the bundle declares none", id="not-declared"),
        pytest.param({"pickle": False}, True, r"'model\.bin' is a pickle and the bundle", id="declared-none"),
        pytest.param({"pickle": "yes"}, True, r"'model\.bin' is a pickle and the bundle", id="no-boolean"),
        pytest.param({"pickle": True}, False, "it declares a pickle, which runs", id="not-allowed"),
        pytest.param({"pickle": True}, True, None, id="declared-and-allowed"),
    ],
)
def test_a_pickle_needs_its_author_and_its_operator(
    make: Make, keys: signing.Keys, declared: dict[str, object], allowed: bool, message: str | None
) -> None:
    """Verify that only a declared and signed pickle under a policy that allows it passes."""
    folder = make(PICKLE, **declared)
    signing.sign(folder, keys)
    policy = Policy(verify_key=keys.public, allow_pickle=allowed)
    if message is not None:
        with pytest.raises(UsageError, match=message):
            verify(folder, policy)
        return
    assert verify(folder, policy).files.keys() == {"model.bin", "serving.json"}
    with pytest.raises(UsageError, match="no signature says whose code that is"):
        verify(folder, Policy(allow_pickle=True))
    (folder / "model.sig").unlink()
    with pytest.raises(UsageError, match="no signature says whose code that is"):
        verify(folder, policy)


def test_a_bundle_inside_cannot_allow_a_pickle(make: Make) -> None:
    """Verify that the outermost document speaks for all."""
    folder = make({"fallback/model.bin": PICKLE["model.bin"]})
    (folder / "fallback" / "serving.json").write_text('{"pickle": true}')
    with pytest.raises(UsageError, match=r"'fallback/model\.bin' is a pickle and the bundle declares none"):
        verify(folder, Policy(allow_pickle=True))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"sha256": 3}', b"[" * 100_000])
def test_a_broken_document_declares_nothing(make: Make, content: bytes) -> None:
    """Verify that what the bundle's reader will refuse in its own words is no reason to fail here."""
    folder = make({"model.onnx": b"x"})
    (folder / "serving.json").write_bytes(content)
    assert verify(folder, Policy(allow_pickle=True)).files.keys() == {"model.onnx", "serving.json"}


def test_a_folder_without_a_document_is_no_bundle(tmp_path: Path) -> None:
    """Verify that a wrong path is told from a tampered bundle."""
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UsageError, match=r"no serving bundle in .*: serving\.json is missing"):
            verify(folder, Policy())
