"""Whether a file holds a pickle: loading one runs whatever code it names, so a bundle must declare it."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath

SUFFIXES = {".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill"}


def holds_pickle(name: str, content: bytes) -> bool:
    """Tell by its name, its first bytes, or, in a zip archive, by its members.

    Protocols 0 and 1 have no mark of their own, and a compressed pickle hides it: those are known by name alone.
    """
    if PurePosixPath(name).suffix.lower() in SUFFIXES or _has_mark(content[:2]):
        return True
    if not content.startswith(b"PK\x03\x04"):
        return False
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                if holds_pickle(member.filename, file.read(2)):
                    return True
    return False


def _has_mark(head: bytes) -> bool:
    # the opcode PROTO and a version, with which every pickle of protocol 2 or newer begins
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5
