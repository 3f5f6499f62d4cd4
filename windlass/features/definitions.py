"""What the files of the feature repository define, and whether the workload states the same.

The definitions are found by reading every file of `feature_repo/`, so a new model is a new file there; what they
state is held against the workload, and a difference is an error that names both.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import windlass
from windlass.contract import Workload
from windlass.errors import UsageError
from windlass.features import feast_import, paths
from windlass.settings import Settings

REPOSITORY = "feature_repo"


@dataclass(frozen=True)
class Definitions:
    """What the files of the repository define, by name."""

    entities: dict[str, Any]
    views: dict[str, Any]
    services: dict[str, Any]
    push_sources: dict[str, Any]

    def objects(self) -> list[Any]:
        return [
            *self.entities.values(),
            *self.push_sources.values(),
            *self.views.values(),
            *self.services.values(),
        ]


def read(settings: Settings, project_dir: Path | None = None) -> Definitions:
    """Read all definition files: the project's own, and the shipped ones that it has no file of the same name for.

    Raises:
        UsageError: a file cannot be read, or two define different things under one name.
    """
    feast_import.load()
    from feast import Entity, FeatureService, FeatureView, PushSource

    found = Definitions({}, {}, {}, {})
    kinds: tuple[tuple[Any, dict[str, Any]], ...] = (
        (Entity, found.entities),
        (FeatureView, found.views),
        (FeatureService, found.services),
        (PushSource, found.push_sources),
    )
    for path in files(settings, project_dir):
        module = _load(path, settings)
        for thing in vars(module).values():
            for kind, known in kinds:
                if isinstance(thing, kind):
                    _hold(thing, path)
                    if not _same(known.setdefault(thing.name, thing), thing):
                        raise UsageError(
                            f"{path}: {kind.__name__} {thing.name!r} is defined differently in another file of "
                            f"{REPOSITORY}; give it another name"
                        )
                    if kind is FeatureView and isinstance(thing.stream_source, PushSource):
                        found.push_sources[thing.stream_source.name] = thing.stream_source
    return found


def _hold(thing: Any, path: Path) -> None:
    """Make what Feast's registry keeps of it: an argument of the wrong type fails here, not when it is used."""
    if getattr(thing, "_pending_feature_refs", None):
        return  # a service that names views by text, which Feast finds when it applies
    try:
        thing.to_proto()
    except Exception as error:
        raise UsageError(
            f"{path}: {type(thing).__name__} {thing.name!r} cannot be registered: {error}; "
            "look at the types of its arguments"
        ) from error


def _same(one: Any, other: Any) -> bool:
    """Whether two definitions of one name may stand side by side: two models may share a key and describe it each."""
    from feast import Entity

    if isinstance(one, Entity) and isinstance(other, Entity):
        return (one.join_key, one.value_type) == (other.join_key, other.value_type)
    return bool(one == other)


def disagreements(workload: Workload, defined: Definitions) -> list[str]:
    """Say where the repository's definitions differ from what the workload states; empty where they agree."""
    from feast.types import Float64

    problems: list[str] = []
    service = defined.services.get(workload.feature_service)
    if service is None:
        problems.append(f"there is no FeatureService {workload.feature_service!r}")
    else:
        served = [p.name for p in service.feature_view_projections]
        if served != [v.name for v in workload.views]:
            ours = [v.name for v in workload.views]
            problems.append(f"FeatureService {service.name!r} has the views {served}, the workload {ours}")
    for view in workload.views:
        there = defined.views.get(view.name)
        if there is None:
            problems.append(f"there is no FeatureView {view.name!r}")
            continue
        stated: tuple[tuple[str, object, object], ...] = (
            ("entity", [c.name for c in there.entity_columns] or there.entities, [view.entity]),
            ("features", [f.name for f in there.features], list(view.features)),
            ("time to live", there.ttl, view.ttl),
            ("push source", there.stream_source is not None, view.stream),
        )
        name = f"FeatureView {view.name!r}"
        problems += [f"{name}: {what} is {a} there, {b} in the workload" for what, a, b in stated if a != b]
        problems += [
            f"{name}: {f.name!r} is {f.dtype}, must be Float64" for f in there.features if f.dtype != Float64
        ]
    return problems


def agreed(workload: Workload, settings: Settings, project_dir: Path | None = None) -> Definitions:
    """Return the definitions, once they agree with the workload.

    Raises:
        UsageError: they do not; every difference is named.
    """
    found = read(settings, project_dir)
    problems = disagreements(workload, found)
    if problems:
        raise UsageError(
            f"{REPOSITORY} and workload {workload.name!r} disagree: {'; '.join(problems)}; make them the same in "
            f"{REPOSITORY}/{workload.name}.py and workloads/{workload.name}/workload.py"
        )
    return found


def files(settings: Settings, project_dir: Path | None) -> list[Path]:
    """Definition files by name; the project's own stand before the shipped."""
    shipped = Path(windlass.__file__).parents[1] / REPOSITORY
    own = (project_dir or settings.project) / REPOSITORY
    chosen: dict[str, Path] = {}
    for folder in (own, shipped):
        for path in sorted(folder.glob("*.py")):
            chosen.setdefault(path.name, path)
    return [path for _, path in sorted(chosen.items())]


def _load(path: Path, settings: Settings) -> Any:
    spec = importlib.util.spec_from_file_location(f"windlass_feature_repo_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # noqa: S101 - a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    try:
        with paths.using(settings):
            spec.loader.exec_module(module)
    except Exception as error:
        # whatever a definition file raises is a fault of that file
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{path} cannot be read: {reason}; correct the definitions in it") from error
    return module
