"""Bundles in the object store, at the address that model servers of a cluster load them from.

The signature covers every other file and is written last, so that what has one is whole: whoever comes in between
finds a bundle that nobody signed, refuses it and comes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components import signing
from serving.runtime.trust import envelope
from windlass.errors import WindlassError
from windlass.objectstore import BUNDLES, ObjectStore, bundle_prefix
from windlass.settings import Settings


class Published:
    """The bundles under `models/` of the object store that the settings name.

    Raises:
        WindlassError: of every method: the store cannot be read or written.
    """

    def __init__(self, settings: Settings) -> None:
        self._store = ObjectStore(settings)

    def reach(self, model: str) -> None:
        """Find out that the store answers and takes our word, before anything is made that would have to go there."""
        next(self._store.keys(f"{BUNDLES}/{model}/"), None)

    def put(self, model: str, version: str, folder: Path, public: Path) -> None:
        """Have a signed bundle there as it is, and nothing else; what is there whole is left alone.

        Args:
            public: key of who signed it.
        """
        prefix = bundle_prefix(model, version)
        files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        there = {key.removeprefix(prefix): size for key, size in self._store.sizes(prefix)}
        if self._whole(prefix, files, there, public):
            return
        if signing.SIGNATURE in there:
            self._store.remove(prefix + signing.SIGNATURE)
        for strange in sorted(set(there) - set(files)):
            self._store.remove(prefix + strange)
        signature = files.pop(signing.SIGNATURE)
        for name, path in files.items():
            self._store.upload(path, prefix + name)
        self._store.upload(signature, prefix + signing.SIGNATURE)

    def _whole(self, prefix: str, files: Mapping[str, Path], there: Mapping[str, int], public: Path) -> bool:
        # another signature of the same files has another length
        sizes = {name: path.stat().st_size for name, path in files.items() if name != signing.SIGNATURE}
        if set(there) != set(files) or any(there[name] != size for name, size in sizes.items()):
            return False
        key = envelope.load_key(public)
        try:
            signed = envelope.open_envelope(self._store.read(prefix + signing.SIGNATURE), key)
            return signed == envelope.open_envelope(files[signing.SIGNATURE].read_bytes(), key)
        except envelope.BadSignature:
            return False
        except WindlassError:
            return False  # it went between our looks; writing says what is wrong
