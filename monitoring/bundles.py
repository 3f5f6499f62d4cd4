"""Serving bundles of the versions that are judged: those in the home, and what the object store has of the others."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from pathlib import Path

from serving.runtime.trust import public_key
from serving.runtime.trust.verify import DOCUMENT, Policy, verify
from windlass import objectstore
from windlass.atomic import replacing_folder
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

#: a folder that somebody writes has something new in it by then: a store that says nothing is given up sooner
LEFT_S = 3600.0
#: what `replacing_folder` writes in
_TEMPORARY = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._-]*-[a-z0-9_]{8}")


def is_remote(settings: Settings, model: str, version: str) -> bool:
    """Whether a version's bundle is to come from the object store: it is not in the home."""
    return (
        settings.object_store is not None
        and not (settings.bundles_dir / model / version / DOCUMENT).is_file()
    )


def bring(settings: Settings, model: str, version: str) -> Path:
    """The folder of a version's bundle; one that is not in the home comes whole and verified from the object store.

    Without an object store nothing is brought, and the folder may not be there.

    Raises:
        WindlassError: the store cannot be read or has none of it, its signature does not hold, or it cannot be written.
    """
    place = settings.bundles_dir / model / version
    if not is_remote(settings, model, version):
        return place
    store = objectstore.ObjectStore(settings)
    prefix = objectstore.bundle_prefix(model, version)
    try:
        # nothing is loaded from it here: a pickle harms nobody
        policy = Policy(public_key.find(settings), require_signature=True, allow_pickle=True)
        _sweep(place.parent)
        with replacing_folder(place) as folder:
            if not store.sync_down(prefix.rstrip("/"), folder):
                raise WindlassError(
                    f"there is no bundle of version {version} of {model} at {store.address(prefix)}; `windlass fetch "
                    f"{model} {version}` puts it there from the registry"
                )
            verify(folder, policy)
            stated = json.loads((folder / DOCUMENT).read_bytes())
            if (stated.get("model"), stated.get("version")) != (model, version):
                raise WindlassError(
                    f"{store.address(prefix)} holds the bundle of version {stated.get('version')!r} of "
                    f"{stated.get('model')!r}; put that of the registry there: `windlass fetch {model} {version}`"
                )
    except UsageError as error:
        raise WindlassError(f"{store.address(prefix)} is not taken: {error}") from error
    except OSError as error:
        if not (place / DOCUMENT).is_file():  # another process may have brought it meanwhile
            raise WindlassError(
                f"the bundle of version {version} of {model} cannot be written to {place}: {error.strerror}; "
                "where a claim is mounted there, the retrain trigger fills it"
            ) from error
    return place


def _sweep(place: Path) -> None:
    """Remove what processes that were killed while they brought a bundle left there; a folder in use stays."""
    if not place.is_dir():
        return
    for folder in place.iterdir():
        if not _TEMPORARY.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        with contextlib.suppress(OSError):  # its writer ended meanwhile, or it is another's
            newest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
            if newest < time.time() - LEFT_S:
                shutil.rmtree(folder)
