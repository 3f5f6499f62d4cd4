"""The pipeline's steps: open artifacts, call the tested functions, write artifacts.

Each takes plain values and folders, so that the KFP components around them are a few lines. A step imports only
what it needs, since each is a process of its own. What goes wrong is also written to `WINDLASS_RUN_ERROR` (where
set), so that whoever started the run can tell bad input from a failure.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec

from components import cache, window
from windlass import catalog, data_version, settings, telemetry
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.settings import Settings

P = ParamSpec("P")
SEED = 20130101
PROGRESS = "windlass | "
STEPS = ("validate", "training-set", "tune-and-train", "evaluate-and-gate", "register")


def progress(text: str) -> None:
    """Say something to whoever watches the run."""
    sys.stderr.write(f"{PROGRESS}{text}\n")
    sys.stderr.flush()


def threads() -> int:
    """Threads for training: more pay only on cores that nothing else uses."""
    return max(1, int(os.environ.get("WINDLASS_TRAIN_THREADS", "1")))


def step(function: Callable[P, None]) -> Callable[P, None]:
    """Write a failure down before it ends the process."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        telemetry.switch_off()
        try:
            function(*args, **kwargs)
        except Exception as error:
            path = os.environ.get("WINDLASS_RUN_ERROR")
            if path:
                exit_code = error.exit_code if isinstance(error, WindlassError) else 1
                text = str(error) if isinstance(error, WindlassError) else f"{type(error).__name__}: {error}"
                full = "No space left on device" in text or (
                    isinstance(error, OSError) and error.errno == errno.ENOSPC
                )
                if full:
                    text = f"no space left on the device ({text}); free some space and run the command again"
                with contextlib.suppress(OSError):
                    Path(path).write_text(
                        json.dumps({"type": type(error).__name__, "message": text, "exit_code": exit_code})
                    )
            raise

    return guarded


@step
def validate(workload: str, start: str, end: str, data: str, out: str) -> None:
    """Check the source and keep the window's rows."""
    import hashlib

    import pandas as pd

    from components import validate as validation

    spec, s = _open(workload)
    span = window.parse(start, end)
    path = Path(data) if data else None
    name = f"data file {path}" if path else f"the built-in data of workload {workload!r}"
    frame = spec.source.load(path)
    # the columns that count: a file with one more is the same data
    kept = frame[[c.name for c in spec.source.columns if c.name in frame.columns]]
    content = hashlib.sha256(pd.util.hash_pandas_object(kept, index=False).to_numpy().tobytes()).hexdigest()
    code = cache.code_version(["components.validate", "components.window"], ["pandas", "pandera"])
    # the types as well: a 1 and a True, or a time in other units, have one hash
    types = [(c, str(t)) for c, t in kept.dtypes.items()]
    source = cache.digest(code, _folder(spec, s), content, types, len(frame))
    version = data_version.of_file(path)
    key = cache.digest(source, span.start, span.end, *([] if version is None else [version]))

    def produce(folder: Path) -> None:
        # the rows of another window of a source that was found sound are sound
        cache.once("source-sound", s.cache_dir, source, lambda: validation.check_source(spec, frame, name))
        rows, volume = validation.select(spec, spec.prepare(frame), span, name)
        rows.to_parquet(folder / "rows.parquet", index=False)
        cache.write_json(
            folder / "window.json",
            {
                "rows": volume.rows,
                "labelled": volume.labelled,
                "oldest": volume.oldest.isoformat(),
                "newest": volume.newest.isoformat(),
                "source": content,
                **({} if version is None else {"data_version": version}),
            },
        )

    record = cache.run("validate", Path(out), s.cache_dir, key, produce)
    found = cache.read_json(Path(out) / "window.json")
    _done(record, f"{found['rows']} rows, {found['labelled']} labelled")


@step
def training_set(workload: str, start: str, end: str, data: str, rows: str, out: str) -> None:
    """Join the features, point in time."""
    import pandas as pd

    from components import dataset

    spec, s = _open(workload)
    source = Path(data) if data else None
    offline = ""
    if spec.views:
        from windlass.features import offline as offline_store

        offline = offline_store.build(spec, s, data=source, progress=progress).content_hash
    code = cache.code_version(
        ["components.dataset", "components.window", "windlass.features.ondemand"], ["pandas"]
    )
    validated = cache.read(Path(rows))
    key = cache.digest(
        code, validated.content, _folder(spec, s), offline, spec.feature_service, spec.model_inputs
    )

    def produce(folder: Path) -> None:
        join = dataset.feature_service_join(spec, s, offline) if spec.views else None
        frame = pd.read_parquet(Path(rows) / "rows.parquet")
        made = dataset.build(spec, s, frame, window.parse(start, end), join)
        dataset.write(made, spec.model_inputs, folder)

    record = cache.run("training-set", Path(out), s.cache_dir, key, produce)
    report = cache.read_json(Path(out) / cache.REPORT)
    _done(record, f"{report['chunks_reused']} of {report['chunks']} months from the cache")


@step
def tune_and_train(workload: str, trials: int, training_folder: str, out: str) -> None:
    """Search, train the best on all training rows, export."""
    from components import dataset, training

    spec, s = _open(workload)
    estimators = [(e.family, {n: asdict(r) for n, r in e.space.items()}) for e in spec.estimators]
    code = cache.code_version(
        [f"components.{m}" for m in ("training", "search", "estimator", "export", "delong")],
        ["optuna", "scikit-learn", "xgboost-cpu", "onnx"],
    )
    content = cache.read(Path(training_folder)).content
    key = cache.digest(code, content, estimators, dataset.category_counts(spec), trials, SEED)

    def produce(folder: Path) -> None:
        training.train(
            spec,
            dataset.read(Path(training_folder)),
            folder,
            studies=s.cache_dir / "studies" / spec.name,
            key=key,
            trials=trials,
            seed=SEED,
            threads=threads(),
            progress=progress,
        )

    record = cache.run("tune-and-train", Path(out), s.cache_dir, key, produce)
    model = cache.read_json(Path(out) / "model.json")
    report = cache.read_json(Path(out) / cache.REPORT)
    _done(
        record,
        f"{model['family']} of {len(model['trials'])} trials on {model['training_rows']} rows; "
        f"{report['size_bytes'] / 1024:.0f} KB, {report['single_row_ms']:.3f} ms a row, "
        f"export differs by {report['max_difference']:.1e}",
    )


@step
def evaluate_and_gate(workload: str, training: str, model: str, out: str) -> None:
    """Judge the candidate, and write the verdict that the last step obeys."""
    from components import dataset, gate, judging
    from components.registry import Registry

    spec, s = _open(workload)
    artifact = Path(model) / "model.onnx"
    content = cache.digest(cache.read(Path(training)).content, cache.file_digest(artifact))
    champion = _champion(Registry(s), spec, content)
    code = cache.code_version(
        [f"components.{m}" for m in ("delong", "evaluate", "export", "gate", "judging")], ["onnxruntime"]
    )
    costs = (spec.false_negative_cost, spec.false_positive_cost)
    seen = None if champion is None else (champion.version, cache.file_digest(champion.folder / "model.onnx"))
    key = cache.digest(code, content, asdict(spec.gates), spec.slices, spec.model_inputs, costs, seen)

    def produce(folder: Path) -> None:
        measured, checks = judging.judge(spec, dataset.read(Path(training)), artifact, champion, seed=SEED)
        cache.write_json(folder / "evaluation.json", asdict(measured))
        cache.write_json(
            folder / "verdict.json",
            {
                "passed": gate.passed(checks),
                "champion": None if champion is None else champion.version,
                "content": content,
                "checks": [asdict(c) for c in checks],
            },
        )

    record = cache.run("evaluate-and-gate", Path(out), s.cache_dir, key, produce)
    verdict = cache.read_json(Path(out) / "verdict.json")
    _done(record, "all gates passed" if verdict["passed"] else "the candidate failed a gate")
    for check in verdict["checks"]:
        progress("  " + gate.explain(gate.Check(**check)))


@step
def register(
    workload: str,
    start: str,
    end: str,
    run_id: str,
    rows: str,
    training: str,
    model: str,
    evaluation: str,
    out: str,
) -> None:
    """Register the version with what the verdict makes of it, and ask for its release."""
    from components import registration

    spec, s = _open(workload)
    folders = registration.Folders(Path(rows), Path(training), Path(model), Path(evaluation), Path(out))
    result = registration.register(spec, s, window.parse(start, end), run_id, folders, seed=SEED)
    progress(f"version {result['version']} of {spec.name} is {result['state']}")


def _open(workload: str) -> tuple[Workload, Settings]:
    s = settings.load()
    return catalog.load(workload, s.project), s


def _folder(workload: Workload, s: Settings) -> str:
    import workloads

    for root in (s.project / "workloads", *map(Path, workloads.__path__)):
        if (root / workload.name / "workload.py").is_file():
            return cache.folder_version(root / workload.name)
    return ""


def _champion(registry: Any, spec: Workload, content: str) -> Any:
    """The champion to compare with; where it is this very candidate, the one that it was compared with."""
    from components.judging import Champion

    version = registry.champion(spec.name)
    if version is None:
        return None
    info = registry.info(spec.name, version)
    if info.tags.get("candidate_content") == content:
        before = info.tags.get("compared_with", "")
        if not before:
            return None
        info = registry.info(spec.name, before)
    folder = registry.fetch_bundle(spec.name, info.version)
    return Champion(info.version, folder, datetime.fromisoformat(info.trained_to))


def _done(record: cache.StepRecord, text: str) -> None:
    how = "reused" if record.reused else f"{record.seconds:.1f} s (CPU {record.cpu_seconds:.1f} s)"
    progress(f"{record.step}: {how}, {text}")


def metrics_of(evaluation: str) -> dict[str, float]:
    """The figures of an evaluation that a pipeline's page shows."""
    found = cache.read_json(Path(evaluation) / "evaluation.json")
    names = ("auc", "log_loss", "brier", "calibration_error", "business_cost")
    return {
        **{n: found[n] for n in names},
        "passed": float(cache.read_json(Path(evaluation) / "verdict.json")["passed"]),
    }
