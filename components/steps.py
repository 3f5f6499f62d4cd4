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
from windlass import catalog, settings, telemetry
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.settings import Settings

P = ParamSpec("P")
SEED = 20130101
PROGRESS = "windlass | "
STEPS = ("validate", "training-set", "tune-and-train", "evaluate-and-gate", "register")


def progress(text: str) -> None:
    """Say something to whoever watches the run."""
    print(f"{PROGRESS}{text}", file=sys.stderr, flush=True)


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
    key = cache.digest(code, _folder(spec, s), content, list(kept.columns), len(frame), span.start, span.end)

    def produce(folder: Path) -> None:
        validation.check_source(spec, frame, name)
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
    code = cache.code_version(["components.dataset", "components.window"], ["pandas"])
    validated = cache.read(Path(rows))
    key = cache.digest(
        code, validated.content, _folder(spec, s), offline, spec.feature_service, spec.model_inputs
    )

    def produce(folder: Path) -> None:
        join = dataset.feature_service_join(spec, s) if spec.views else None
        frame = pd.read_parquet(Path(rows) / "rows.parquet")
        made = dataset.build(spec, s, frame, window.parse(start, end), join)
        dataset.write(made, spec.model_inputs, folder)

    record = cache.run("training-set", Path(out), s.cache_dir, key, produce)
    report = cache.read_json(Path(out) / cache.REPORT)
    _done(record, f"{report['chunks_reused']} of {report['chunks']} months from the cache")


@step
def tune_and_train(workload: str, trials: int, training: str, out: str) -> None:
    """Search, train the best on all training rows, export."""
    import numpy as np
    import onnx

    from components import dataset, estimator, export, search
    from components.validate import EVENT_TIMESTAMP, LABEL

    spec, s = _open(workload)
    estimators = [(e.family, {n: asdict(r) for n, r in e.space.items()}) for e in spec.estimators]
    code = cache.code_version(
        ["components.search", "components.estimator", "components.export", "components.delong"],
        ["optuna", "scikit-learn", "xgboost-cpu", "onnx"],
    )
    content = cache.read(Path(training)).content
    key = cache.digest(code, content, estimators, dataset.category_counts(spec), trials, SEED)
    studies = s.cache_dir / "studies" / spec.name

    def produce(folder: Path) -> None:
        frame = dataset.read(Path(training))
        old = (frame.rows[EVENT_TIMESTAMP] < frame.evaluation_start).to_numpy()
        inputs, labels = frame.inputs[old], frame.rows[LABEL].to_numpy(dtype=np.float64)[old]
        categories = dataset.category_counts(spec)
        found = search.search(
            search.split_by_time(inputs, labels, seed=SEED),
            spec.estimators,
            categories=categories,
            trials=trials,
            seed=SEED,
            threads=threads(),
            journal=studies / f"{key}.journal",
            start=_last_best(studies),
            progress=progress,
        )
        best = found.best
        model = estimator.fit(
            best.family, best.parameters, inputs, labels, categories=categories, seed=SEED, threads=threads()
        )
        onnx.save(export.export(model, inputs.shape[1]), folder / "model.onnx")
        native = _keep_native(model, folder)
        report = export.check_parity(model, folder / "model.onnx", frame.inputs[-20_000:])
        cache.write_json(
            folder / "model.json",
            {
                "family": best.family,
                "parameters": dict(best.parameters),
                "search_auc": best.auc,
                "training_rows": len(labels),
                "native": native,
                "trials": [
                    {"family": t.family, "parameters": dict(t.parameters), "auc": t.auc} for t in found.trials
                ],
                "seed": SEED,
            },
        )
        cache.write_json(folder / cache.REPORT, asdict(report))
        cache.write_json(
            studies / "best.json",
            {"family": best.family, "parameters": dict(best.parameters), "auc": best.auc},
        )

    record = cache.run("tune-and-train", Path(out), s.cache_dir, key, produce)
    model = cache.read_json(Path(out) / "model.json")
    report = cache.read_json(Path(out) / cache.REPORT)
    _done(
        record,
        f"{model['family']} of {len(model['trials'])} trials on {model['training_rows']} rows; "
        f"{report['size_bytes'] // 1024} KB, {report['single_row_ms']:.3f} ms a row, "
        f"export differs by {report['max_difference']:.1e}",
    )


@step
def evaluate_and_gate(workload: str, training: str, model: str, out: str) -> None:
    """Judge the candidate, and write the verdict that the last step obeys."""
    from components import dataset, evaluate, export, gate, judging
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
        rows = judging.evaluation_rows(spec, dataset.read(Path(training)))
        session = export.load(artifact)
        scores = export.score(session, rows.inputs)
        measured = evaluate.evaluate(
            rows.labels,
            scores,
            false_negative_cost=costs[0],
            false_positive_cost=costs[1],
            slices=rows.slices,
            seed=SEED,
        )
        facts = gate.Facts(
            rows=len(scores),
            auc=measured.auc,
            calibration_error=measured.calibration_error,
            single_row_ms=export.single_row_ms(session, rows.inputs),
            auc_without=judging.auc_without_views(spec, session, rows),
            champion=None if champion is None else judging.compare(spec, spec.gates, rows, scores, champion),
        )
        checks = gate.judge(spec.gates, facts)
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


def _last_best(studies: Path) -> list[Any]:
    from components.search import Trial

    path = studies / "best.json"
    if not path.is_file():
        return []
    best = cache.read_json(path)
    return [Trial(best["family"], best["parameters"], best["auc"])]


def _keep_native(model: Any, folder: Path) -> str:
    """Keep the library's own model beside the export; return the file's name."""
    if model.family == "xgboost":
        model.native.save_model(folder / "native.ubj")
        return "native.ubj"
    if model.family == "linear":
        cache.write_json(folder / "native.json", asdict(model.native))
        return "native.json"
    import skops.io

    skops.io.dump(model.native, folder / "native.skops")
    return "native.skops"


def _done(record: cache.StepRecord, text: str) -> None:
    how = "reused" if record.reused else f"{record.seconds:.1f} s"
    progress(f"{record.step}: {how}, {text}")


def metrics_of(evaluation: str) -> dict[str, float]:
    """The figures of an evaluation that a pipeline's page shows."""
    found = cache.read_json(Path(evaluation) / "evaluation.json")
    names = ("auc", "log_loss", "brier", "calibration_error", "business_cost")
    return {
        **{n: found[n] for n in names},
        "passed": float(cache.read_json(Path(evaluation) / "verdict.json")["passed"]),
    }
