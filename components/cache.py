"""Reuse of step outputs by content: a step whose inputs, code and parameters are unchanged is not run again.

KFP's own cache works on a cluster only (the local runner ignores it), so the steps keep one of their own under
`settings.cache_dir`. A finished output is renamed into place: a run that dies in a step leaves no entry.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass import atomic

RECORD = "step.json"
REPORT = "report.json"
"""What a step measured (durations, latencies): kept with its output and no part of its content."""

KEPT_ENTRIES = 24


@dataclass(frozen=True)
class StepRecord:
    """What is known of one step's output.

    Attributes:
        content: hash of the output's files; the next step's key is made of it.
        reused: True where the output came from the cache.
        seconds: wall time, reading the inputs left out.
        cpu_seconds: CPU time of the step's whole process, imports included.
    """

    step: str
    key: str
    content: str
    reused: bool
    seconds: float
    cpu_seconds: float


def digest(*parts: Any) -> str:
    """Hash JSON-like values; equal values give equal hashes on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """Hash one file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_version(modules: Iterable[str], distributions: Iterable[str] = ()) -> str:
    """Hash the source of our modules (of a package all of its files) and the versions of what they rest on."""
    parts: list[str] = []
    for name in modules:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None  # noqa: S101 - only our own modules are named
        origin = Path(spec.origin)
        parts.append(
            folder_version(origin.parent) if spec.submodule_search_locations else file_digest(origin)
        )
    parts += [f"{name}=={importlib.metadata.version(name)}" for name in distributions]
    return digest(parts)


def folder_version(folder: Path) -> str:
    """Hash a workload's own Python files."""
    return digest([(p.relative_to(folder).as_posix(), file_digest(p)) for p in sorted(folder.rglob("*.py"))])


def run(step: str, out: Path, cache: Path, key: str, produce: Callable[[Path], None]) -> StepRecord:
    """Fill the folder `out` from the cache, or by `produce(folder)` and keep the result.

    Raises:
        whatever `produce` raises; neither the cache nor `out` holds anything then.
    """
    started = time.monotonic()
    shelf = cache / "steps" / step
    entry = shelf / key
    reused = (entry / RECORD).is_file()
    if not reused:
        shelf.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=shelf, prefix=".making-") as name:
            folder = Path(name) / "output"
            folder.mkdir()
            produce(folder)
            content = digest([(p.name, file_digest(p)) for p in sorted(folder.iterdir()) if p.name != REPORT])
            record = StepRecord(step, key, content, False, time.monotonic() - started, time.process_time())
            _write(folder, record)
            if entry.exists():  # another run made the same output meanwhile, or an entry was damaged
                shutil.rmtree(entry)
            folder.rename(entry)
    else:
        os.utime(entry)
    record = read(entry)
    _copy(entry, out)
    record = StepRecord(step, key, record.content, reused, time.monotonic() - started, time.process_time())
    _write(out, record)
    _prune(shelf, keep=KEPT_ENTRIES)
    return record


def once(what: str, cache: Path, key: str, check: Callable[[], None]) -> None:
    """Make a check, unless it was made and passed before for the same `key`.

    Raises:
        whatever `check` raises; it is made again the next time then.
    """
    marker = cache / what / key
    if not marker.is_file():
        check()
        atomic.write_text(marker, "")


def read(folder: Path) -> StepRecord:
    """Return the record of a step's output folder."""
    return StepRecord(**json.loads((folder / RECORD).read_text()))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _write(folder: Path, record: StepRecord) -> None:
    # unlink first: the file may be a hard link into the cache
    (folder / RECORD).unlink(missing_ok=True)
    write_json(folder / RECORD, record.__dict__)


def _copy(entry: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for path in entry.iterdir():
        target = out / path.name
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another file system
            shutil.copy2(path, target)


def _prune(shelf: Path, *, keep: int) -> None:
    entries = [p for p in shelf.iterdir() if not p.name.startswith(".")]
    entries.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for entry in entries[keep:]:
        shutil.rmtree(entry, ignore_errors=True)
