"""Signatures of serving bundles in the OpenSSF model-signing format; the only importer of model_signing.

A bundle is signed where it gets its version, by an elliptic-curve key, offline. The server checks the signature with a
reader of its own (`serving.runtime.trust`); here the library checks it, before a bundle that came out of the registry's
shared artifacts is taken for ours.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.runtime.trust import public_key
from windlass.atomic import sync_directory
from windlass.errors import UsageError
from windlass.settings import Settings

SIGNATURE = "model.sig"
SIGNING_KEY = "WINDLASS_SIGNING_KEY"
VERIFY_KEY = public_key.VARIABLE
CURVES = ("secp256r1", "secp384r1", "secp521r1")
MOUNTED = public_key.MOUNTED
PASSWORD = "WINDLASS_SIGNING_KEY_PASSWORD"  # noqa: S105 - the variable's name


@dataclass(frozen=True)
class Keys:
    """A pair of PEM files.

    Attributes:
        private: None where this process may verify and not sign.
        password: of the private key; no part of what is printed.
    """

    public: Path
    private: Path | None
    password: bytes | None = field(default=None, repr=False)


def keys(settings: Settings, environ: Mapping[str, str] | None = None) -> Keys:
    """Return the pair that the environment names, else that of `MOUNTED`, else the home's, which the first call makes.

    Raises:
        UsageError: a file is missing, or a private key is named without its public key.
    """
    env = os.environ if environ is None else environ
    if SIGNING_KEY in env or VERIFY_KEY in env:
        if VERIFY_KEY not in env:
            raise UsageError(
                f"{SIGNING_KEY} is set and {VERIFY_KEY} is not; name the file with its public key"
            )
        private = Path(env[SIGNING_KEY]).resolve() if SIGNING_KEY in env else None
        password = env[PASSWORD].encode() if PASSWORD in env else None
        pair = Keys(Path(env[VERIFY_KEY]).resolve(), private, password)
    elif (MOUNTED / "verify.pem").is_file():
        private = MOUNTED / "signing.pem"
        password = env[PASSWORD].encode() if PASSWORD in env else None
        pair = Keys(MOUNTED / "verify.pem", private if private.is_file() else None, password)
    else:
        folder = settings.home / "keys"
        pair = Keys(folder / "verify.pem", folder / "signing.pem")
        if not pair.public.exists():
            _make(folder)
    for path in (pair.public, pair.private):
        if path is not None and not path.is_file():
            raise UsageError(
                f"the key {path} is missing; bring it back, or have all versions registered again"
            )
    return pair


def reader(settings: Settings, environ: Mapping[str, str] | None = None) -> Keys:
    """The public key of the same places, for whoever verifies and signs nothing: a pair of its own would be nobody's.

    Raises:
        UsageError: there is none.
    """
    public = public_key.find(settings, environ)
    if not public.is_file():
        raise UsageError(f"the key {public} is missing; bring it back, or name another file in {VERIFY_KEY}")
    return Keys(public, None)


def sign(folder: Path, pair: Keys) -> None:
    """Sign every file below `folder` into its `model.sig`, which replaces one that is there.

    Raises:
        UsageError: there is no private key, it cannot be read, or it is not the public key's.
    """
    from model_signing import signing

    if pair.private is None:
        raise UsageError(
            f"cannot sign {folder}: {VERIFY_KEY} is set and {SIGNING_KEY} is not; "
            "a process that registers versions needs both"
        )
    _check_pair(pair, pair.private)
    (folder / SIGNATURE).unlink(missing_ok=True)
    config = signing.Config().set_hashing_config(_whole_folder())  # type: ignore[no-untyped-call]
    # the library hands the password on to cryptography, which takes bytes, whatever its annotation says
    password: Any = pair.password
    config.use_elliptic_key_signer(private_key=pair.private, password=password)
    config.sign(folder, folder / SIGNATURE)


def verify(folder: Path, public: Path, *, name: str) -> None:
    """Check that the files below `folder` are those that its `model.sig` names.

    Args:
        name: what the message calls the bundle.

    Raises:
        UsageError: they are not, or another key signed them.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    config = verifying.Config().set_hashing_config(_whole_folder())  # type: ignore[no-untyped-call]
    config.use_elliptic_key_verifier(public_key=public)
    try:
        config.verify(folder, folder / SIGNATURE)
        return
    except InvalidSignature:
        why = "another key made it, or it was changed"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError) as error:
        # the library has no exception of its own, and fails on a damaged file as it comes; digests are of no use here
        why = re.sub(r": Expected .*", "", str(error).removeprefix("Signature mismatch: ").replace("\\", ""))
    raise UsageError(
        f"the signature of {name} does not hold under {public}: {why}; name the key of who registered it in "
        f"{VERIFY_KEY}, or register it again"
    )


def _whole_folder() -> Any:
    from model_signing import hashing

    # git's own files too: the library leaves them out where nobody objects
    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)  # type: ignore[no-untyped-call]


def _check_pair(pair: Keys, private: Path) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(private.read_bytes(), pair.password)
        public = serialization.load_pem_public_key(pair.public.read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"cannot read the keys {private} and {pair.public}: {error}; both are PEM, and {PASSWORD} is needed "
            "where the private one is encrypted"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise UsageError(
            f"the key {private} lies on none of the curves {', '.join(CURVES)}; make one that does"
        )
    if key.public_key() != public:
        raise UsageError(
            f"the key {pair.public} is not the public key of {private}; a server would refuse what it signs"
        )


def _make(folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for name, content, mode in (("signing.pem", secret, 0o600), ("verify.pem", public, 0o644)):
            descriptor = os.open(made / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        made.chmod(0o755)
        sync_directory(made)
        try:
            # both files appear at once; of two first registrations one finds the folder filled, and takes that pair
            made.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        sync_directory(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)
