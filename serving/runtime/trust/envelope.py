"""The signature of a bundle: `model.sig`, a Sigstore bundle with a DSSE envelope around an in-toto statement.

Read with `cryptography` alone: the library that writes it costs most of a second at import and a dozen packages, and
the server needs one of its formats. A test holds this reader to the library. Where the library lets something pass,
this reader is the stricter one: every file must be named by the statement, whatever it says of paths to ignore, and
what is not understood is refused by its name.

Formats: github.com/sigstore/model-transparency (predicate v1.0), github.com/secure-systems-lab/dsse (PAE, protocol v1),
docs.sigstore.dev/about/bundle (bundle v0.3).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass.errors import UsageError

SIGNATURE = "model.sig"
MOST_BYTES = 8 * 1024 * 1024
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""For each curve the hash that the format prescribes."""


class BadSignature(Exception):  # noqa: N818 - what is wrong with it; the caller names the folder
    """The signature does not hold; the message says which part of it."""


@dataclass(frozen=True)
class Key:
    """A public key on an elliptic curve.

    Attributes:
        fingerprint: SHA-256 in hex of its PEM text, as `model.sig` names it in `hint`.
    """

    path: Path
    fingerprint: str
    _key: Any

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether this key's owner signed `message`: ECDSA, DER-encoded."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            self._key.verify(signature, message, ec.ECDSA(getattr(hashes, HASHES[self._key.curve.name])()))
        except InvalidSignature:
            return False
        return True


def load_key(path: Path) -> Key:
    """Read a public key.

    Raises:
        UsageError: there is none, or it is of a kind that signs no bundle.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"cannot read the verify key {path}: {error.strerror}; give the file of a public key"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"the verify key {path} is no public key in PEM; give `keys/verify.pem` of the home"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in HASHES:
        raise UsageError(
            f"the verify key {path} lies on none of the curves {', '.join(HASHES)}; give one that does"
        )
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Key(path, hashlib.sha256(pem).hexdigest(), key)


def open_envelope(content: bytes, key: Key) -> Mapping[str, str]:
    """Check the signature `content` and return what it covers: SHA-256 in hex by path, relative to the folder.

    Raises:
        BadSignature: it is damaged, was made by another key, or is of a form that is not read here.
    """
    if len(content) > MOST_BYTES:
        raise BadSignature(f"is larger than {MOST_BYTES} bytes")
    document = _fields(_json(content, "it"), "it", {"mediaType", "verificationMaterial", "dsseEnvelope"})
    _equal(document["mediaType"], MEDIA_TYPE, "mediaType")
    material = _fields(document["verificationMaterial"], "verificationMaterial", {"publicKey", "tlogEntries"})
    _equal(material["tlogEntries"], [], "tlogEntries")
    hint = _fields(material["publicKey"], "publicKey", {"hint"})["hint"]
    if hint != key.fingerprint:
        raise BadSignature(f"names the key {str(hint)[:12]}… and {key.path} is {key.fingerprint[:12]}…")
    envelope = _fields(document["dsseEnvelope"], "dsseEnvelope", {"payload", "payloadType", "signatures"})
    _equal(envelope["payloadType"], PAYLOAD_TYPE, "payloadType")
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise BadSignature("signatures is not a list of one")
    signature = _fields(signatures[0], "signatures[0]", {"sig", "keyid"})
    _equal(signature["keyid"], "", "keyid")
    payload = _bytes(envelope["payload"], "payload")
    if not key.holds(_bytes(signature["sig"], "sig"), _pre_authentication_encoding(payload)):
        raise BadSignature(f"was not made by {key.path}, or was changed")
    return _resources(_json(payload, "payload"))


def _pre_authentication_encoding(payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _resources(statement: Any) -> Mapping[str, str]:
    try:
        _equal(statement["_type"], STATEMENT_TYPE, "_type")
        _equal(statement["predicateType"], PREDICATE_TYPE, "predicateType")
        serialization = statement["predicate"]["serialization"]
        for name, stated in (("method", "files"), ("hash_type", "sha256"), ("allow_symlinks", False)):
            _equal(serialization[name], stated, f"serialization.{name}")
        (subject,) = statement["subject"]
        together = hashlib.sha256()
        found: dict[str, str] = {}
        for resource in statement["predicate"]["resources"]:
            name = resource["name"]
            _equal(resource["algorithm"], "sha256", f"the algorithm of {name!r}")
            if name in found:
                raise BadSignature(f"names {name!r} twice")
            digest = bytes.fromhex(resource["digest"])
            together.update(digest)
            found[name] = digest.hex()
        _equal(subject["digest"]["sha256"], together.hexdigest(), "the digest of its subject")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadSignature(f"holds a statement that is not of model-signing v1.0: {error!r}") from error
    return found


def _json(content: bytes, what: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadSignature(f"is damaged: {what} is no JSON") from error


def _fields(value: Any, what: str, names: set[str]) -> dict[str, Any]:
    # exactly these: a field that nobody reads is where a changed byte would pass
    if not isinstance(value, dict) or value.keys() != names:
        raise BadSignature(
            f"is of a form that is not read here: {what} has not exactly the fields {sorted(names)}"
        )
    return value


def _equal(found: Any, expected: Any, what: str) -> None:
    if type(found) is not type(expected) or found != expected:
        raise BadSignature(
            f"is of a form that is not read here: {what} is {str(found)[:80]!r}, not {expected!r}"
        )


def _bytes(value: Any, what: str) -> bytes:
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise BadSignature(f"is damaged: {what} is no base64") from error
    # the last character has bits that no byte takes
    if base64.b64encode(content).decode() != value:
        raise BadSignature(f"is damaged: {what} is no canonical base64")
    return content
