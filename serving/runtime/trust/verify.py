"""A bundle is checked as a whole, signature and files, before anything in it is loaded.

Time of check, time of use: what was checked here is not the file but its digest. `Report.read` gives the bytes whose
digest that is and no others, so a file that is exchanged between the check and the loading is refused, whoever may
write to the folder. `serving.json` is read through it too: its `sha256` then names what the signature covers, and
comparing a file with either is comparing it with the signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.runtime.trust import envelope, files
from serving.runtime.trust.content import BadContent, hidden_code, is_code
from serving.runtime.trust.files import refused
from windlass.errors import UsageError

DOCUMENT = "serving.json"
GIB = 1024**3


@dataclass(frozen=True)
class Policy:
    """What a server asks of a bundle.

    Checking holds one file at a time, and what it expands to, in memory.

    Attributes:
        verify_key: PEM file of the public key that signed it; None leaves a signature unread.
        require_signature: refuse a bundle without one.
        allow_pickle: take a signed bundle that declares a pickle. One that is not signed, or that holds a pickle and
            declares none, is refused anyway.
        most_files, most_file_bytes, most_bytes: of the whole folder; a file may also expand to `most_file_bytes`.

    Raises:
        UsageError: a signature is required and there is no key to check it with.
    """

    verify_key: Path | None = None
    require_signature: bool = False
    allow_pickle: bool = False
    most_files: int = 10_000
    most_file_bytes: int = GIB
    most_bytes: int = 4 * GIB

    def __post_init__(self) -> None:
        if self.require_signature and self.verify_key is None:
            raise UsageError(
                "a signature is required and no key was given to check it with; add --verify-key FILE"
            )


@dataclass(frozen=True)
class Report:
    """A bundle that passed.

    Attributes:
        folder: absolute, links resolved.
        signed: whether a signature covers all of it and holds.
        key: fingerprint of the key that signed it (SHA-256 in hex of its PEM text).
        files: SHA-256 in hex of each file but `model.sig`, by path relative to the folder.
    """

    folder: Path
    signed: bool
    key: str | None
    files: Mapping[str, str]

    def read(self, path: Path) -> bytes:
        """Return a file's bytes, the very ones that were checked.

        Args:
            path: below `folder`, or relative to it.

        Raises:
            UsageError: it was not there to be checked, lies outside the folder, or was changed since.
        """
        try:
            name = (self.folder / path).relative_to(self.folder).as_posix()
        except ValueError:
            name = str(path)
        if name not in self.files:
            raise refused(self.folder, f"it has no file {name!r}")
        found = files.read(self.folder, name)
        if hashlib.sha256(found).hexdigest() != self.files[name]:
            raise refused(self.folder, f"{name!r} was changed while the server started")
        return found


def verify(folder: Path, policy: Policy) -> Report:
    """Check every file below `folder` against the signature and the policy.

    Raises:
        UsageError: the first thing that is wrong, with the file at fault and the remedy.
    """
    folder = folder.resolve()
    if not (folder / DOCUMENT).exists():
        raise UsageError(
            f"no serving bundle in {folder}: {DOCUMENT} is missing; train a version, or give its folder"
        )
    found = files.names(folder, policy.most_files)
    key, signed = _signature(folder, found, policy)
    # documents first: what they state is asked of the other files
    order = sorted(
        (n for n in found if n != envelope.SIGNATURE), key=lambda n: (not _is_document(n), n.count("/"), n)
    )
    digests: dict[str, str] = {}
    stated: set[str] = set()
    pickles = False
    left = policy.most_bytes
    for name in order:
        read = files.read(folder, name, policy.most_file_bytes)
        left -= len(read)
        if left < 0:
            raise refused(
                folder, f"with {name!r} its files exceed {policy.most_bytes} bytes", "raise the limit"
            )
        digests[name] = hashlib.sha256(read).hexdigest()
        if signed is not None and digests[name] != signed[name]:
            raise refused(
                folder,
                f"{name!r} has SHA-256 {digests[name][:12]}…, signed was {signed[name][:12]}…: it was changed",
            )
        if _is_document(name):
            document = _object(read)
            digested = document.get("sha256")
            stated |= {
                name.removesuffix(DOCUMENT) + n for n in (digested if isinstance(digested, dict) else ())
            }
            # the outermost document speaks for all: who allows its pickles has read no other
            pickles = document.get("pickle") is True if name == DOCUMENT else pickles
            if pickles:
                _check_pickles(folder, policy, signed is not None)
        _check_content(folder, name, read, stated=name in stated, pickles=pickles, policy=policy)
    return Report(folder, signed is not None, key, digests)


def _signature(
    folder: Path, found: list[str], policy: Policy
) -> tuple[str, Mapping[str, str]] | tuple[None, None]:
    """The key's fingerprint and the digests that it signed; None where the policy leaves the bundle unsigned."""
    if envelope.SIGNATURE not in found:
        if policy.require_signature:
            raise refused(folder, f"{envelope.SIGNATURE!r} is missing, and policy asks for a signature")
        return None, None
    if policy.verify_key is None:
        return None, None
    key = envelope.load_key(policy.verify_key)
    try:
        signed = envelope.open_envelope(files.read(folder, envelope.SIGNATURE, envelope.MOST_BYTES), key)
    except envelope.BadSignature as error:
        raise refused(
            folder,
            f"{envelope.SIGNATURE!r} {error}",
            "give the key of who registered it, or register the version again",
        ) from error
    present = set(found) - {envelope.SIGNATURE}
    if added := sorted(present - signed.keys()):
        raise refused(folder, f"{added[0]!r} is not among the files that were signed")
    if missing := sorted(signed.keys() - present):
        raise refused(folder, f"{missing[0]!r} was signed and is missing")
    return key.fingerprint, signed


def _check_pickles(folder: Path, policy: Policy, signed: bool) -> None:
    if not policy.allow_pickle:
        raise refused(
            folder,
            "it declares a pickle, which runs its author's code when it is loaded",
            "export the model in another format, or start the server with --allow-pickle",
        )
    if not signed:
        raise refused(
            folder,
            "it declares a pickle, and no signature says whose code that is",
            "register it again, and start the server with --verify-key",
        )


def _check_content(
    folder: Path, name: str, content: bytes, *, stated: bool, pickles: bool, policy: Policy
) -> None:
    if is_code(name, content) and not stated:
        raise refused(folder, f"{name!r} is code that no {DOCUMENT} names in its sha256")
    try:
        hidden = hidden_code(name, content, policy.most_file_bytes)
    except BadContent as error:
        raise UsageError(f"serving bundle {folder}: {name!r} {error}") from error
    if hidden and not pickles:
        raise refused(
            folder,
            f"{name!r} {hidden} and the bundle declares none; loading it could run any code",
            "export the model in another format, or state `pickle`",
        )


def _is_document(name: str) -> bool:
    return name.rsplit("/", 1)[-1] == DOCUMENT


def _object(content: bytes) -> dict[str, Any]:
    """A document as far as it is one; what reads it next says in its own words what is wrong with it."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
