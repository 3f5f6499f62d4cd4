"""The last step: a judged candidate becomes a registered version with its bundle, and a release is asked for."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import bundle, cache, dataset, export, reference, release_request
from components.registry import CANDIDATE, CHAMPION, REJECTED, Registry, Submission, VersionInfo
from components.validate import EVENT_TIMESTAMP
from components.window import Window
from windlass import __version__
from windlass.contract import Workload
from windlass.features import ondemand
from windlass.settings import Settings

EXPORT_REPORT = "export.json"
METRICS = ("auc", "log_loss", "brier", "calibration_error", "business_cost", "threshold", "positive_rate")


@dataclass(frozen=True)
class Folders:
    """The outputs of the steps before, and ours."""

    rows: Path
    training: Path
    model: Path
    evaluation: Path
    out: Path


def register(
    workload: Workload, settings: Settings, window: Window, run_id: str, folders: Folders, *, seed: int
) -> dict[str, Any]:
    """Register what the verdict says, write `result.json` and the release document, and return the result."""
    registry = Registry(settings)
    verdict = cache.read_json(folders.evaluation / "verdict.json")
    evaluation = cache.read_json(folders.evaluation / "evaluation.json")
    steps = [cache.read(f) for f in (folders.rows, folders.training, folders.model, folders.evaluation)]
    content = cache.digest(verdict["content"], verdict["passed"], verdict["champion"], __version__)
    found = registry.by_content(workload.name, content)
    folders.out.mkdir(parents=True, exist_ok=True)
    if found is None:
        found = _submit(
            workload, settings, registry, window, run_id, folders, verdict, evaluation, content, seed
        )
        reused = False
    else:
        reused = True
        # the run that registered it may have died before this
        if verdict["passed"] and registry.champion(workload.name) is None:
            registry.set_champion(workload.name, found.version)
            found = registry.info(workload.name, found.version)
    release = _request_release(workload, settings, run_id, folders, found, verdict)
    shutil.copytree(
        registry.fetch_bundle(workload.name, found.version), folders.out / "bundle", dirs_exist_ok=True
    )
    model = cache.read_json(folders.model / "model.json")
    metrics: dict[str, Any] = {name: evaluation[name] for name in METRICS}
    metrics |= {f"{name}_interval": list(ends) for name, ends in evaluation["intervals"].items()}
    result = {
        "model": workload.name,
        "version": found.version,
        "state": found.state,
        "run_id": run_id,
        "passed": verdict["passed"],
        "champion": verdict["champion"],
        "trained_from": found.trained_from,
        "trained_to": found.trained_to,
        "window": {"from": window.start.isoformat(), "to": window.end.isoformat()},
        "data_version": cache.read_json(folders.rows / "window.json").get("data_version"),
        "estimator": {"family": model["family"], "parameters": model["parameters"]},
        "metrics": metrics,
        "gates": verdict["checks"],
        "slices": evaluation["slices"],
        "export": cache.read_json(folders.model / cache.REPORT),
        "reused": [s.step for s in steps if s.reused] + (["register"] if reused else []),
        "step_cpu_seconds": {s.step: round(s.cpu_seconds, 2) for s in steps}
        | {"register": round(time.process_time(), 2)},
        "release": release,
    }
    cache.write_json(folders.out / "result.json", result)
    return result


def _submit(
    workload: Workload,
    settings: Settings,
    registry: Registry,
    window: Window,
    run_id: str,
    folders: Folders,
    verdict: dict[str, Any],
    evaluation: dict[str, Any],
    content: str,
    seed: int,
) -> VersionInfo:
    training_set = dataset.read(folders.training)
    model = cache.read_json(folders.model / "model.json")
    session = export.load(folders.model / "model.onnx")
    old = (training_set.rows[EVENT_TIMESTAMP] < training_set.evaluation_start).to_numpy()
    scores = export.score(session, training_set.inputs)
    trained = training_set.rows[EVENT_TIMESTAMP][old]
    source = cache.read_json(folders.rows / "window.json")
    tags = {
        "run": run_id,
        "content": content,
        "candidate_content": verdict["content"],
        "trained_from": window.start.isoformat(),
        "trained_to": training_set.evaluation_start.isoformat(),
        "newest_training_row": trained.iloc[-1].isoformat(),
        "window_from": window.start.isoformat(),
        "window_to": window.end.isoformat(),
        "offline_auc": repr(evaluation["auc"]),
        "data_hash": cache.read(folders.training).content,
        "source_hash": source["source"],
        **({"data_version": source["data_version"]} if "data_version" in source else {}),
        "model_sha256": cache.file_digest(folders.model / "model.onnx"),
        "feature_service": workload.feature_service,
        "family": model["family"],
        "compared_with": verdict["champion"] or "",
        "passed": str(verdict["passed"]).lower(),
        "windlass_version": __version__,
        **_commit(settings.project),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        described = reference.write(workload, training_set, scores[old], scores[~old], folder, seed=seed)
        report = cache.read_json(folders.model / cache.REPORT)
        forms = report["forms"]
        for form in forms:
            shutil.copyfile(folders.model / form["file"], folder / form["file"])
        for code in map(ondemand.code_of, workload.transformations):
            (folder / code.file).write_bytes(code.content)
        document = bundle.manifest(
            workload,
            reference.defaults(described["inputs"]),
            tags["model_sha256"],
            forms,
            {f["file"]: cache.file_digest(folder / f["file"]) for f in forms},
        )
        cache.write_json(folder / bundle.MANIFEST, document)
        cache.write_json(folder / EXPORT_REPORT, report)
        parameters = {"family": model["family"], "trials": str(len(model["trials"])), "seed": str(seed)}
        parameters |= {k: repr(v) for k, v in model["parameters"].items()}
        submission = Submission(
            model=workload.name,
            run_name=run_id,
            folder=folder,
            extra=(
                folders.model / "model.json",
                *(
                    ()
                    if any(f["file"] == model["native"] for f in forms)
                    else (folders.model / model["native"],)
                ),
                folders.evaluation / "evaluation.json",
                folders.evaluation / "verdict.json",
            ),
            inputs=workload.model_inputs,
            example=tuple(float(v) for v in training_set.inputs[0]),
            parameters=parameters,
            metrics={name: float(evaluation[name]) for name in METRICS},
            tags=tags,
        )
        first = verdict["passed"] and registry.champion(workload.name) is None
        state = REJECTED if not verdict["passed"] else CHAMPION if first else CANDIDATE
        return registry.register(submission, state=state, champion=first)


def _request_release(
    workload: Workload,
    settings: Settings,
    run_id: str,
    folders: Folders,
    version: VersionInfo,
    verdict: dict[str, Any],
) -> str | None:
    """Write the release document where a candidate waits for one; return its path."""
    if not verdict["passed"] or verdict["champion"] is None:
        return None
    registry_champion = Registry(settings).champion(workload.name)
    if registry_champion is None or registry_champion == version.version:
        return None
    release = release_request.document(workload, version.version, registry_champion)
    path = settings.runs_dir / run_id / "release.yaml"
    release_request.write(path, release)
    release_request.write(folders.out / "release.yaml", release)
    return str(path)


def _commit(project: Path) -> dict[str, str]:
    """The git commit of the project, and whether files differ from it; nothing where it is no repository."""
    git = shutil.which("git")
    if git is None or not (project / ".git").exists():
        return {}
    call = [git, "-C", str(project)]
    head = subprocess.run(
        [*call, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20, check=False
    )
    status = subprocess.run(
        [*call, "status", "--porcelain"], capture_output=True, text=True, timeout=20, check=False
    )
    if head.returncode:
        return {}
    return {"git_commit": head.stdout.strip(), "git_dirty": str(bool(status.stdout.strip())).lower()}
