"""Taking a backup of a home that is in use.

The registry and the journals are several files that tell one story, and a copy must not hold the end of one chapter
without its beginning. So all is copied, and what changed meanwhile is copied again until a whole round passes in which
nothing did but files that only grow; then every copy is of the same moment.

Custom resources of a cluster are read before a home is copied: a registry may know of a promotion that the journals do
not confirm yet, and never the other way round.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from windlass import __version__, atomic
from windlass.backup import archive, contents
from windlass.backup.cluster import Exported
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

#: Rounds until a home counts as written too fast; a round of the few files that changed takes milliseconds.
ROUNDS = 50


@dataclass(frozen=True)
class Taken:
    """A backup that was made."""

    path: Path
    size: int
    manifest: archive.Manifest


def take(
    settings: Settings,
    out: Path,
    at: datetime,
    *,
    events: bool = True,
    exported: Exported | None = None,
    step: Callable[[str], None] = lambda text: None,
    tell: Callable[[int, int], None] = lambda done, all_: None,
) -> Taken:
    """Write a backup of `settings.home` to `out`; the platform may run meanwhile.

    Args:
        at: now, in UTC.
        events: False leaves out predictions, labels and their analyses.
        exported: custom resources that go with it, read just before; a home that holds nothing is no fault then.
        step, tell: progress, in words and in bytes of all bytes.

    Raises:
        UsageError: there is nothing to back up, or `out` exists.
        WindlassError: the home does not hold still, or the disk is full; no file is left.
    """
    home = settings.home
    if out.exists():
        raise UsageError(f"{out} exists; name another file, or remove it")
    there = any(contents.scan(home, events=events))
    if not there and exported is None:
        raise UsageError(f"{home} holds nothing to back up; is WINDLASS_HOME right?")
    if there:
        atomic.make_directory(settings.run_dir)
    # on the home's own file system, so that what is written once is linked and not copied
    with tempfile.TemporaryDirectory(dir=settings.run_dir if there else out.parent, prefix="backup-") as name:
        folder, staged = Path(name), set[str]()
        if there:
            step(f"copying {home}")
            staged = _settle(home, folder / archive.HOME, events)
        objects = {} if exported is None else exported.files
        for path, content in objects.items():
            target = folder / archive.CLUSTER / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o600)
        step(f"{len(staged) + len(objects)} files; writing {out}")
        files = {path: archive.member(folder / archive.HOME / path) for path in sorted(staged)}
        manifest = archive.Manifest(
            made_at=at.isoformat(timespec="seconds"),
            windlass=__version__,
            home=str(home),
            object_store=settings.object_store,
            champions=champions(folder / archive.HOME),
            files=files,
            namespace=None if exported is None else exported.namespace,
            objects={path: archive.member(folder / archive.CLUSTER / path) for path in sorted(objects)},
        )
        archive.write(out, folder, manifest, lambda done: tell(done, manifest.size))
    return Taken(out, out.stat().st_size, manifest)


def _settle(home: Path, folder: Path, events: bool) -> set[str]:
    before = contents.scan(home, events=events)
    staged: set[str] = set()
    to_copy = set(before)
    for _ in range(ROUNDS):
        for path in sorted(to_copy):
            try:
                contents.copy(home, path, folder / path)
                staged.add(path)
            except FileNotFoundError:
                pass  # the next scan does not find it either
        after = contents.scan(home, events=events)
        for path in staged - set(after):
            (folder / path).unlink(missing_ok=True)
        staged &= set(after)
        to_copy = {
            path
            for path, seen in after.items()
            if path not in staged
            or path not in before
            or (seen != before[path] and not contents.grew(path, before[path], seen))
        }
        if not to_copy and set(before) <= set(after):
            return staged
        before = after
    shutil.rmtree(folder, ignore_errors=True)
    raise WindlassError(
        f"{home} changed in each of {ROUNDS} rounds ({', '.join(sorted(to_copy)[:3])}); try again when no "
        "training runs, or stop the platform first"
    )


def champions(folder: Path) -> dict[str, str]:
    """Model -> version that holds the champion alias, as the registry's database in `folder` has it."""
    import sqlite3
    from contextlib import closing

    database = folder / "registry" / "mlflow.db"
    if not database.is_file():
        return {}
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT name, version FROM registered_model_aliases WHERE alias = 'champion' ORDER BY name"
        )
        return {str(name): str(version) for name, version in rows}
