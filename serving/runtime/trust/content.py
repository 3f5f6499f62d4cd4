"""What a file holds that would run, or fill the memory, when it is loaded; its bytes tell, not its name alone."""

from __future__ import annotations

import ast
import bz2
import io
import json
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from serving.runtime.trust.pickles import is_pickle

MOST_LEVELS = 4
PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill")
CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".pth", ".so", ".dll", ".dylib", ".sh")
STREAMS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lzma.LZMADecompressor,
    b"\x5d\x00\x00": lzma.LZMADecompressor,
}
"""How a compressed stream begins, and what reads it; zlib's has no fixed beginning."""
UNREAD = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4", b"ZF": "joblib's old format"}
# TensorProto.external_data with its key, and the length of its value, as every protobuf writer lays them out
EXTERNAL = re.compile(rb"\x6a[\x00-\xff]{1,3}\x0a\x08location\x12([\x80-\xff]?)([\x00-\x7f])")
LAMBDA = re.compile(rb'"class_name"\s*:\s*"(Lambda|__lambda__)"')


class BadContent(Exception):  # noqa: N818 - what is wrong with it; the caller names folder and file
    """The file cannot be checked, or must not be loaded; the message goes on after the file's name."""


def is_code(name: str, content: bytes) -> bool:
    """Whether a file is something that an interpreter, a linker or a shell would run."""
    name = name.lower()
    return name.endswith(CODE_SUFFIXES) or ".so." in name or content.startswith((b"\x7fELF", b"#!"))


def hidden_code(name: str, content: bytes, most_bytes: int) -> str | None:
    """Say what in a file runs its author's code when it is loaded; None where nothing does.

    That is a pickle of any protocol, a numpy array of objects (which is one), a Keras layer that carries its function
    or names a module of its own; inside archives and compressed streams as well.

    Args:
        most_bytes: what archives and streams may expand to, all together.

    Raises:
        BadContent: an archive is damaged, encrypted, leaves its folder or expands beyond `most_bytes`; or a model keeps
            its weights in another file.
    """
    if name.lower().endswith(PICKLE_SUFFIXES):
        return "is a pickle by its name"
    if name.lower().endswith(".onnx") and (place := _external_data(content)) is not None:
        raise BadContent(f"keeps weights outside of it, in {place!r}; export it with its weights inside")
    return _Search(most_bytes).search(content, 0)


class _Search:
    """Looks into one file; what it may still expand to is counted over everything inside it."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._left = most_bytes

    def search(self, content: bytes, level: int) -> str | None:
        if level > MOST_LEVELS:
            raise BadContent(f"is packed more than {MOST_LEVELS} times; unpack it")
        for magic, kind in UNREAD.items():
            if content.startswith(magic):
                raise BadContent(f"is compressed by {kind}, which is not looked into; store it unpacked")
        if is_pickle(content):
            return "is a pickle"
        if content.startswith(b"\x93NUMPY") and _holds_objects(content):
            return "is a numpy array of objects, which is a pickle"
        if content.startswith(b"\x89HDF") and LAMBDA.search(content):
            return "has a Keras Lambda layer, which carries code"
        if (stream := _stream(content)) is not None:
            found = self.search(self._unpack(content, stream), level + 1)
            return f"is compressed, and inside {found}" if found else None
        # an archive is found by its end, which readers look for behind whatever the file begins with
        if content.startswith(b"PK\x03\x04") or zipfile.is_zipfile(io.BytesIO(content)):
            return self._search_archive(content, level)
        return None

    def _search_archive(self, content: bytes, level: int) -> str | None:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for member in archive.infolist():
                    name = member.filename
                    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
                        raise BadContent(f"has a member {name!r} that leaves its folder; pack it again")
                    if member.flag_bits & 1:
                        raise BadContent(
                            f"has an encrypted member {name!r}, which nobody can check; pack it openly"
                        )
                    with archive.open(member) as file:
                        inner = self._count(file.read(self._left + 1))
                    by_name = "is a pickle by its name" if name.lower().endswith(PICKLE_SUFFIXES) else None
                    keras = _keras_code(inner) if name == "config.json" else None
                    found = by_name or keras or self.search(inner, level + 1)
                    if found:
                        return f"has a member {name!r} that {found}"
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            OSError,
            EOFError,
            NotImplementedError,
        ) as error:
            raise BadContent(f"is a damaged archive ({error}); bring back the original") from error
        return None

    def _unpack(self, content: bytes, stream: Callable[[], Any]) -> bytes:
        parts = []
        try:
            while content:
                reader = stream()
                parts.append(self._count(reader.decompress(content, self._left + 1)))
                if not reader.eof:
                    raise EOFError("it ends early")
                content = reader.unused_data.lstrip(b"\0")
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            # an unpickler would have acted on what came before the fault
            raise BadContent(f"is a damaged compressed stream ({error}); bring back the original") from error
        return b"".join(parts)

    def _count(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise BadContent(
                f"expands to more than {self._most} bytes; store it unpacked, or raise the limit"
            )
        return content


def _external_data(content: bytes) -> str | None:
    for match in EXTERNAL.finditer(content):
        low, high = match[1], match[2][0]
        length = high << 7 | low[0] & 0x7F if low else high
        place = content[match.end() : match.end() + length].decode("utf-8", "replace")
        # a value of this name has its type here, and no text
        if place.isprintable():
            return place
    return None


def _stream(content: bytes) -> Callable[[], Any] | None:
    for magic, make in STREAMS.items():
        if content.startswith(magic):
            return make
    # deflate, and the check of its two bytes
    if content[:1] == b"\x78" and int.from_bytes(content[:2], "big") % 31 == 0:
        return zlib.decompressobj
    return None


def _holds_objects(content: bytes) -> bool:
    import numpy as np

    start, size = (10, "<H") if content[6:7] == b"\x01" else (12, "<I")
    try:
        (length,) = struct.unpack_from(size, content, 8)
        header = ast.literal_eval(content[start : start + min(length, 65_536)].decode().strip())
        return bool(np.lib.format.descr_to_dtype(header["descr"]).hasobject)
    except (struct.error, ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise BadContent("is a numpy file with a damaged header; bring back the original") from error


def _keras_code(content: bytes) -> str | None:
    try:
        waiting: list[Any] = [json.loads(content)]
    except (ValueError, RecursionError) as error:
        raise BadContent("has a member 'config.json' that is no JSON; bring back the original") from error
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            name, module = value.get("class_name"), value.get("module")
            if name in ("Lambda", "__lambda__"):
                return "has a Keras Lambda layer, which carries code"
            # Keras imports the module that is named here; "builtins" is how it writes its own functions
            own = (
                module is None
                or str(module).split(".")[0] == "keras"
                or (module, name) == ("builtins", "function")
            )
            if name is not None and not own:
                return f"needs the module {module!r}, which Keras would import"
    return None
