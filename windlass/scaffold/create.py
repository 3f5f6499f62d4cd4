"""Making a new workload: look at the file, write beside the place, try it, and only then put it there."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windlass import atomic, catalog, contract
from windlass.errors import UsageError, WindlassError
from windlass.scaffold import render
from windlass.scaffold.profile import Profile, profile
from windlass.scaffold.request import Request, check
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from windlass.contract import Workload


@dataclass(frozen=True)
class Created:
    """What was written, and what was found in the file."""

    files: tuple[Path, ...]
    workload: Workload
    profile: Profile


def create(settings: Settings, request: Request) -> Created:
    """Write `workloads/NAME/` and `feature_repo/NAME.py` into the project folder, all or nothing.

    Raises:
        UsageError: the name is taken or no name, or the file or its columns are not what they were said to be.
    """
    from windlass.features import files

    check(request)
    folder = settings.project / "workloads" / request.name
    features = settings.project / "feature_repo" / f"{request.name}.py"
    if folder.exists() or request.name in catalog.names(settings.project):
        raise UsageError(f"workload {request.name!r} exists already; choose another name or remove {folder}")
    # one without its workload was left by a `new` that was killed between the two renames
    if (
        features.exists()
        and f"of the workload `{request.name}`, begun by `windlass new`" not in features.read_text()
    ):
        raise UsageError(f"{features} exists already; choose another name or remove it")
    frame = files.read(request.data)
    found = profile(request, frame)
    folder.parent.mkdir(parents=True, exist_ok=True)
    features.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{request.name}-", dir=folder.parent))
    try:
        staging.chmod(0o755)
        data = request.data.resolve()
        text = render.workload(request, found, data, settings.project)
        (staging / "__init__.py").write_text(f'"""The workload {request.name}: see `workload.py`."""\n')
        (staging / "workload.py").write_text(text)
        (staging / "README.md").write_text(render.readme(request, found))
        workload = _tried(staging / "workload.py", request, frame)
        atomic.write_text(features, render.feature_repository(request, workload))
        try:
            staging.rename(folder)
        except OSError:
            features.unlink()
            raise
        atomic.sync_directory(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    written = (*(folder / name for name in ("workload.py", "README.md", "__init__.py")), features)
    return Created(written, workload, found)


def _tried(path: Path, request: Request, frame: pd.DataFrame) -> Workload:
    """Load what was written and compute its features once: whatever is wrong shows now, with nothing in place."""
    spec = importlib.util.spec_from_file_location(f"windlass_new_{request.name}", path)
    assert spec is not None and spec.loader is not None  # noqa: S101 - a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    workload: Workload = module.WORKLOAD
    if problems := contract.check(workload):
        raise UsageError(
            f"{request.data}: no workload comes of it: {'; '.join(problems)}; rename columns in the file"
        )
    prepared = workload.prepare(frame)
    for view in workload.views:
        rows = view.compute(prepared)
        if list(rows.columns) != [view.entity, "event_timestamp", *view.features] or rows.empty:
            raise WindlassError(
                f"view {view.name} of {request.data} came out as {list(rows.columns)}, {len(rows)} rows"
            )
    return workload
