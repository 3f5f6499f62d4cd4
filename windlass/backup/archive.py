"""The file of a backup: a gzipped tar whose first member says what the others must be.

`home/` holds the files of a home, `cluster/` the custom resources of a namespace, and `manifest.json` names every file
of both with its size and SHA-256. Whoever reads the archive checks all of it before a single
file of it is used, so a backup that was cut short or changed is refused as a whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from windlass import atomic
from windlass.errors import UsageError

FORMAT = 2
#: The first one knew no clusters.
READS = (1, 2)
MANIFEST = "manifest.json"
HOME = "home"
CLUSTER = "cluster"
_BLOCK = 1 << 20
#: The journals and the database shrink to a fifth at any level; models and parquet do not shrink at all.
_LEVEL = 3


@dataclass(frozen=True)
class Member:
    """One file.

    Attributes:
        mode: permission bits.
        changed_ns: when it was last written, in nanoseconds since the epoch.
    """

    size: int
    sha256: str
    mode: int
    changed_ns: int


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        made_at: ISO 8601, UTC.
        windlass: version that made it.
        home: where the home lay; addresses in the registry's database begin with it.
        object_store: where data and artifacts lie that are not in it, None where they all are.
        champions: model -> version.
        files: path relative to the home -> what it is.
        namespace: whose custom resources it holds, None where it holds none.
        objects: path relative to `cluster/` -> what it is.
    """

    made_at: str
    windlass: str
    home: str
    object_store: str | None
    champions: Mapping[str, str]
    files: Mapping[str, Member] = field(default_factory=dict)
    namespace: str | None = None
    objects: Mapping[str, Member] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @property
    def members(self) -> dict[str, Member]:
        """Every file by its path in the archive."""
        return {
            **{f"{HOME}/{path}": known for path, known in self.files.items()},
            **{f"{CLUSTER}/{path}": known for path, known in self.objects.items()},
        }

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(member.size for member in self.members.values())


def member(path: Path) -> Member:
    """Describe a staged file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return Member(status.st_size, digest, status.st_mode & 0o777, status.st_mtime_ns)


def write(
    out: Path, folder: Path, manifest: Manifest, tell: Callable[[int], None] = lambda done: None
) -> None:
    """Write the archive of the files staged in `folder` as they are called in it, all or nothing, readable by its owner
    alone.

    Args:
        tell: called with the bytes written so far.
    """
    # it holds the private key that versions are signed with, and what callers sent
    with (
        atomic.replacing(out, private=True) as temporary,
        tarfile.open(temporary, "w:gz", compresslevel=_LEVEL) as tar,
    ):
        content = manifest.to_json().encode()
        head = tarfile.TarInfo(MANIFEST)
        head.size = len(content)
        tar.addfile(head, io.BytesIO(content))
        done = 0
        for path, known in manifest.members.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.mtime = known.size, known.mode, known.changed_ns // 10**9
            with (folder / path).open("rb") as file:
                tar.addfile(info, file)
            done += known.size
            tell(done)


def read(path: Path) -> Manifest:
    """The manifest alone; nothing is checked yet.

    Raises:
        UsageError: the file is no backup of ours, or of a newer format.
    """
    try:
        with tarfile.open(path, "r:gz") as tar:
            return _manifest(path, tar)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UsageError(f"{path} is no backup: {error}; name a file that `windlass backup` wrote") from error


def unpack(path: Path, folder: Path, tell: Callable[[int], None] = lambda done: None) -> Manifest:
    """Write the files into `folder`, as they are called in the archive, and check each; returns what they are.

    Raises:
        UsageError: the file is no backup, is damaged, or holds less or more than its manifest says; what is in
            `folder` then is worth nothing.
    """
    try:
        with tarfile.open(path, "r:gz") as tar:
            manifest = _manifest(path, tar)
            missing, done = manifest.members, 0
            for info in tar:
                if info.name == MANIFEST:
                    continue
                known = missing.pop(info.name, None)
                source = tar.extractfile(info) if info.isreg() else None
                if known is None or source is None:
                    raise UsageError(
                        f"{path} is damaged: {info.name} is not in its manifest; use another backup"
                    )
                _extract(path, info.name, source, folder / info.name, known)
                done += known.size
                tell(done)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UsageError(f"{path} is damaged: {error}; use another backup") from error
    if missing:
        raise UsageError(
            f"{path} is damaged: {min(missing)} and {len(missing) - 1} more are missing; use another backup"
        )
    return manifest


def _extract(archive: Path, name: str, source: Any, target: Path, known: Member) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as file:
        _copy(source, file, digest)
    if digest.hexdigest() != known.sha256:
        raise UsageError(f"{archive} is damaged: {name} is not what its manifest says; use another backup")
    target.chmod(known.mode & 0o777)
    os.utime(target, ns=(known.changed_ns, known.changed_ns))


def _copy(source: BinaryIO, target: BinaryIO, digest: Any) -> None:
    while block := source.read(_BLOCK):
        digest.update(block)
        target.write(block)


def _described(plain: dict[str, Any]) -> Member:
    if "changed" in plain:  # the first format had whole seconds
        plain = {**plain, "changed_ns": plain["changed"] * 10**9}
        del plain["changed"]
    return Member(**plain)


def _manifest(path: Path, tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    source = (
        tar.extractfile(first) if first is not None and first.name == MANIFEST and first.isreg() else None
    )
    if source is None:
        raise UsageError(
            f"{path} is no backup: it does not begin with {MANIFEST}; name a file that `windlass backup` wrote"
        )
    try:
        plain = json.loads(source.read())
        if plain["format"] not in READS:
            raise UsageError(
                f"{path} has format {plain['format']!r}, and this version reads {FORMAT}; restore it by the version of "
                f"Windlass that made it ({plain.get('windlass')})"
            )
        files, objects = (
            {name: _described(value) for name, value in plain.pop(key, {}).items()}
            for key in ("files", "objects")
        )
        manifest = Manifest(**plain, files=files, objects=objects)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged: its manifest cannot be read ({error!r}); use another backup"
        ) from error
    for name in (*manifest.files, *manifest.objects):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or not place.parts or "\\" in name:
            raise UsageError(f"{path} is not to be trusted: it names the file {name!r}; use another backup")
    return manifest
