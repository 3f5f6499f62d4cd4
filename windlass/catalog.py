"""Finding workloads by name: `workloads/<name>/workload.py` in the project folder, else the ones we ship."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from windlass.contract import Workload, check
from windlass.errors import UsageError


def load(name: str, project: Path) -> Workload:
    """Import the workload `name`.

    Raises:
        UsageError: there is none of that name, it states no `WORKLOAD`, or it contradicts itself.
    """
    path = project / "workloads" / name / "workload.py"
    shipped = Path(importlib.util.find_spec("workloads").submodule_search_locations[0])  # type: ignore[union-attr,index]
    if not name.isidentifier() or not (path.is_file() or (shipped / name / "workload.py").is_file()):
        known = ", ".join(names(project)) or "none"
        raise UsageError(
            f"unknown workload {name!r}; known: {known}; `windlass new {name} --data FILE …` makes one"
        )
    if path.is_file() and not path.resolve().is_relative_to(shipped.resolve()):
        module_name = f"windlass_workload_{name}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None  # noqa: S101 - a .py file always has a loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(f"workloads.{name}.workload")
    workload = getattr(module, "WORKLOAD", None)
    if not isinstance(workload, Workload):
        raise UsageError(f"workload {name!r}: {path} states no WORKLOAD of type windlass.contract.Workload")
    problems = check(workload)
    if problems:
        raise UsageError(f"workload {name!r} contradicts itself: " + "; ".join(problems))
    return workload


def names(project: Path) -> list[str]:
    """Names of all workloads that can be loaded."""
    folders = [project / "workloads"]
    spec = importlib.util.find_spec("workloads")
    if spec is not None and spec.submodule_search_locations:
        folders.append(Path(spec.submodule_search_locations[0]))
    return sorted({p.parent.name for folder in folders for p in folder.glob("*/workload.py")})
