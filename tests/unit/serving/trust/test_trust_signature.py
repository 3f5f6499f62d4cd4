"""Our reader of signatures, held to the library that writes them."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components import signing
from serving.runtime.trust.verify import Policy, verify
from windlass.errors import UsageError

Change = Callable[[Path, signing.Keys], None]


def test_what_the_library_signs_holds(signed: Path, policy: Policy, keys: signing.Keys) -> None:
    """Verify that the report says who signed what."""
    report = verify(signed, policy)
    material = json.loads((signed / "model.sig").read_text())["verificationMaterial"]
    assert (report.signed, report.key) == (True, material["publicKey"]["hint"])
    assert report.files == {
        p.relative_to(signed).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in signed.rglob("*")
        if p.is_file() and p.name != "model.sig"
    }
    signing.verify(signed, keys.public, name="bundle")


def test_the_librarys_command_line_verifies_it_too(signed: Path, keys: signing.Keys) -> None:
    """Verify that a stranger without our code can check a bundle."""
    call = ["verify", "key", "--signature", signed / "model.sig", "--public_key", keys.public, signed]
    done = subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, call)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr
    (signed / "model.onnx").write_bytes(b"other")
    done = subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, call)], capture_output=True, text=True
    )
    assert done.returncode != 0


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def test_every_curve_of_the_format_is_read(make: Callable[..., Path], tmp_path: Path, curve: Any) -> None:
    """Verify that the hash that belongs to each curve is the one used."""
    pair = write_pair(tmp_path, ec.generate_private_key(curve))
    signing.sign(make(), pair)
    assert verify(tmp_path / "bundle", Policy(verify_key=pair.public)).signed


def flip(name: str) -> Change:
    def change(folder: Path, _: signing.Keys) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return change


def swap_signature(folder: Path, keys: signing.Keys) -> None:
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    (other / "model.onnx").write_bytes(b"\x08other")
    signing.sign(other, keys)
    shutil.copy(other / "model.sig", folder)


TAMPERINGS = [
    pytest.param(flip("model.onnx"), "'model.onnx' has SHA-256 .* it was changed", id="changed-byte"),
    pytest.param(flip("serving.json"), "'serving.json' has SHA-256", id="changed-document"),
    pytest.param(flip("fallback/model.txt"), "'fallback/model.txt' has SHA-256", id="changed-byte-below"),
    pytest.param(
        lambda f, _: (f / "fallback/new.bin").write_bytes(b""), "'fallback/new.bin' is not among", id="added"
    ),
    pytest.param(
        lambda f, _: (f / "reference.json").unlink(), "'reference.json' was signed and is", id="removed"
    ),
    pytest.param(
        lambda f, _: (f / "model.onnx").rename(f / "model2.onnx"), "'model2.onnx' is not among", id="renamed"
    ),
    pytest.param(swap_signature, "'model.onnx' has SHA-256", id="signature-of-another-bundle"),
    pytest.param(
        lambda f, _: (f / "model.sig").write_bytes((f / "model.sig").read_bytes()[:200]),
        "'model.sig' is damaged",
        id="truncated",
    ),
    pytest.param(
        lambda f, _: (f / "model.sig").write_bytes(b"\xff\x00garbage"), "'model.sig' is damaged", id="garbage"
    ),
    pytest.param(lambda f, _: (f / "model.sig").write_bytes(b""), "'model.sig' is damaged", id="empty"),
    pytest.param(
        lambda f, _: (f / "model.sig").write_bytes(b" " * (9 << 20)), "'model.sig' is larger than", id="huge"
    ),
    pytest.param(
        lambda f, _: (f / "model.sig").write_bytes(b"[" * 200_000),
        "'model.sig' is damaged",
        id="deeply-nested",
    ),
]


@pytest.mark.parametrize(("change", "message"), TAMPERINGS)
def test_what_the_library_refuses_we_refuse(
    signed: Path, policy: Policy, keys: signing.Keys, change: Change, message: str
) -> None:
    """Verify that each tampering is refused by both, by ours with the file named."""
    change(signed, keys)
    with pytest.raises(UsageError):
        signing.verify(signed, keys.public, name="bundle")
    with pytest.raises(UsageError, match=message) as refusal:
        verify(signed, policy)
    assert str(signed) in str(refusal.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_byte_changed_in_any_file_is_refused(signed: Path, policy: Policy, data: st.DataObject) -> None:
    """Verify that no byte is without effect, not even in the signature's own file."""
    name = data.draw(
        st.sampled_from(sorted(p.relative_to(signed).as_posix() for p in signed.rglob("*") if p.is_file()))
    )
    original = (signed / name).read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= data.draw(st.integers(1, 255))
    (signed / name).write_bytes(changed)
    try:
        with pytest.raises(UsageError, match=Path(name).name):
            verify(signed, policy)
    finally:
        (signed / name).write_bytes(original)


def test_a_file_that_the_signature_says_to_ignore_is_refused(
    signed: Path, keys: signing.Keys, policy: Policy
) -> None:
    """Verify that ours is stricter than the library, which leaves out git's folders and paths that it is told of."""
    from model_signing import hashing, verifying
    from model_signing import signing as library

    (signed / "model.sig").unlink()
    config: Any = library.Config()  # type: ignore[no-untyped-call]
    assert keys.private is not None
    config.use_elliptic_key_signer(private_key=keys.private).sign(signed, signed.parent / "default.sig")
    (signed.parent / "default.sig").rename(signed / "model.sig")
    (signed / ".git").mkdir()
    (signed / ".git" / "hook").write_bytes(b"x")
    lenient: Any = verifying.Config()  # type: ignore[no-untyped-call]
    lenient.set_hashing_config(hashing.Config().set_ignored_paths(paths=["model.sig"]))  # type: ignore[no-untyped-call]
    lenient.use_elliptic_key_verifier(public_key=keys.public).verify(signed, signed / "model.sig")
    with pytest.raises(UsageError, match=r"'\.git/hook' is not among the files that were signed"):
        verify(signed, policy)


def test_another_key_is_refused_and_both_are_named(signed: Path, tmp_path: Path, keys: signing.Keys) -> None:
    """Verify that the message says which key is missing."""
    other = write_pair(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(UsageError):
        signing.verify(signed, other.public, name="bundle")
    with pytest.raises(UsageError, match=f"'model.sig' names the key .* and {other.public} is"):
        verify(signed, Policy(verify_key=other.public))
    # the hint is only a hint
    document = json.loads((signed / "model.sig").read_text())
    pem = other.public.read_bytes()
    document["verificationMaterial"]["publicKey"]["hint"] = hashlib.sha256(pem).hexdigest()
    (signed / "model.sig").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"'model\.sig' was not made by"):
        verify(signed, Policy(verify_key=other.public))


def sign_statement(folder: Path, keys: signing.Keys, change: Callable[[dict[str, Any]], None]) -> None:
    """Replace the statement by a changed one, signed correctly."""
    document = json.loads((folder / "model.sig").read_text())
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    assert keys.private is not None
    key = serialization.load_pem_private_key(keys.private.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    (folder / "model.sig").write_text(json.dumps(document))


def put(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


def test_a_statement_signed_by_hand_holds(signed: Path, policy: Policy, keys: signing.Keys) -> None:
    """Verify that the table below refuses its changes and not the way in which they were made."""
    sign_statement(signed, keys, lambda _: None)
    assert verify(signed, policy).signed


SERIALIZATION = ("predicate", "serialization")
RESOURCE = ("predicate", "resources", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            put("shards", *SERIALIZATION, "method"), "serialization.method is 'shards'", id="shards"
        ),
        pytest.param(put("blake3", *SERIALIZATION, "hash_type"), "hash_type is 'blake3'", id="blake3"),
        pytest.param(put(True, *SERIALIZATION, "allow_symlinks"), "allow_symlinks is 'True'", id="symlinks"),
        pytest.param(put("https://model_signing/Digests/v0.1", "predicateType"), "Digests/v0.1", id="v0.2"),
        pytest.param(put("https://in-toto.io/Statement/v0.1", "_type"), "_type is", id="statement"),
        pytest.param(
            put("blake2b", *RESOURCE, "algorithm"), "the algorithm of .* is 'blake2b'", id="algorithm"
        ),
        pytest.param(put("zz", *RESOURCE, "digest"), "not of model-signing v1.0", id="no-digest"),
        pytest.param(put("00" * 32, *RESOURCE, "digest"), "the digest of its subject", id="not-its-subject"),
        pytest.param(put("model.onnx", *RESOURCE, "name"), "names 'model.onnx' twice", id="twice"),
        pytest.param(put([], "subject"), "not of model-signing v1.0", id="no-subject"),
        pytest.param(put([], "predicate"), "not of model-signing v1.0", id="no-predicate"),
    ],
)
def test_a_statement_that_is_not_understood_is_refused_by_name(
    signed: Path, policy: Policy, keys: signing.Keys, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Verify that a good signature over something else than we implement is no permission."""
    sign_statement(signed, keys, change)
    with pytest.raises(UsageError, match=f"'model.sig' .*{message}"):
        verify(signed, policy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(put("v0.2", "mediaType"), "mediaType is 'v0.2'", id="media-type"),
        pytest.param(put([{}], "verificationMaterial", "tlogEntries"), "tlogEntries", id="log-entries"),
        pytest.param(put({}, "verificationMaterial", "publicKey"), "publicKey has not exactly", id="no-hint"),
        pytest.param(put("text/plain", "dsseEnvelope", "payloadType"), "payloadType", id="payload-type"),
        pytest.param(
            put([], "dsseEnvelope", "signatures"), "signatures is not a list of one", id="no-signature"
        ),
        pytest.param(put("?", "dsseEnvelope", "payload"), "payload is no base64", id="no-base64"),
        pytest.param(put(3, "dsseEnvelope", "payload"), "payload is no base64", id="number"),
        pytest.param(
            put("AAAA", "dsseEnvelope", "signatures", 0, "sig"), "was not made by", id="other-signature"
        ),
        pytest.param(put("", "dsseEnvelope", "signatures", 0, "sig"), "was not made by", id="no-bytes"),
        pytest.param(put("x", "more"), "has not exactly the fields", id="unread-field"),
    ],
)
def test_an_envelope_that_is_not_understood_is_refused_by_name(
    signed: Path, policy: Policy, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Verify that every field is read."""
    document = json.loads((signed / "model.sig").read_text())
    change(document)
    (signed / "model.sig").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=f"'model.sig' .*{message}"):
        verify(signed, policy)


def write_pair(folder: Path, key: Any) -> signing.Keys:
    pair = signing.Keys(folder / "public.pem", folder / "private.pem")
    assert pair.private is not None
    pair.private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    pair.public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return pair


@pytest.mark.parametrize(
    ("make_key", "message"),
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 2048), "lies on none of the curves", id="rsa"),
        pytest.param(
            lambda: ec.generate_private_key(ec.SECP256K1()), "lies on none of the curves", id="other-curve"
        ),
    ],
)
def test_a_key_of_another_kind_is_refused(
    signed: Path, tmp_path: Path, make_key: Callable[[], Any], message: str
) -> None:
    """Verify that neither signing nor verifying takes a key that the format does not know."""
    pair = write_pair(tmp_path, make_key())
    with pytest.raises(UsageError, match=message):
        verify(signed, Policy(verify_key=pair.public))
    with pytest.raises(UsageError, match=message):
        signing.sign(signed, pair)


def test_a_key_file_that_is_none_is_named(signed: Path, tmp_path: Path, keys: signing.Keys) -> None:
    """Verify that a wrong path, a private key and garbage are told from a wrong signature."""
    with pytest.raises(UsageError, match=r"cannot read the verify key .*gone\.pem: No such file"):
        verify(signed, Policy(verify_key=tmp_path / "gone.pem"))
    (tmp_path / "garbage.pem").write_bytes(b"garbage")
    for path in (keys.private, tmp_path / "garbage.pem"):
        with pytest.raises(UsageError, match="is no public key in PEM"):
            verify(signed, Policy(verify_key=path))


def test_a_bundle_without_signature_is_a_matter_of_policy(
    signed: Path, policy: Policy, keys: signing.Keys
) -> None:
    """Verify that nothing but the policy decides what a missing signature means."""
    report = verify(signed, Policy())
    assert (report.signed, report.key) == (False, None)
    (signed / "model.sig").unlink()
    assert not verify(signed, Policy(verify_key=keys.public)).signed
    with pytest.raises(UsageError, match=r"'model.sig' is missing, and policy asks for a signature"):
        verify(signed, policy)
    with pytest.raises(UsageError, match="no key was given to check it with"):
        Policy(require_signature=True)


def test_what_is_read_is_what_was_checked(signed: Path, policy: Policy) -> None:
    """Verify that a file exchanged after the check is not loaded."""
    report = verify(signed, policy)
    before = (signed / "model.onnx").read_bytes()
    assert report.read(Path("model.onnx")) == report.read(signed / "model.onnx") == before
    (signed / "model.onnx").write_bytes(before[::-1])
    with pytest.raises(UsageError, match=r"'model.onnx' was changed while the server started"):
        report.read(Path("model.onnx"))
    (signed / "model.onnx").unlink()
    (signed / "model.onnx").symlink_to(signed / "reference.json")
    with pytest.raises(UsageError, match=r"cannot read 'model.onnx'"):
        report.read(Path("model.onnx"))


@pytest.mark.parametrize("path", ["../keys", "/etc/passwd", "gone", "model.sig", "fallback"])
def test_nothing_else_is_read(signed: Path, policy: Policy, path: str) -> None:
    """Verify that a name of a document leads to a checked file or nowhere."""
    with pytest.raises(UsageError, match="it has no file"):
        verify(signed, policy).read(Path(path))


def test_the_server_needs_no_library_to_verify() -> None:
    """Verify that the check costs the server neither the library nor what the library brings."""
    code = "import serving.runtime.trust.verify, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "windlass" in loaded
    assert not {"model_signing", "sigstore", "pydantic", "numpy", "onnx", "cryptography"} & loaded
