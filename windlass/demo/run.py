"""The demo from its first model to its report."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from windlass import atomic, catalog
from windlass.demo import outputs, sampling, story, training
from windlass.demo.controls import Controls
from windlass.demo.record import Record, text
from windlass.demo.replay import Traffic
from windlass.demo.story import Story
from windlass.errors import UsageError, WindlassError
from windlass.local.lifeline import Lifeline
from windlass.local.memory import PeakMemory
from windlass.local.platform import Platform, plain_launcher
from windlass.local.progress import Progress
from windlass.settings import Settings

WORKLOAD = "flights"
MARKER = ".windlass-demo"


def demo(settings: Settings, *, out: Path, seed: int, fast: bool, quiet: bool) -> dict[str, Any]:
    """Tell the story; writes `summary.json`, `decisions.jsonl`, `series.json` and `report.html` into `out`.

    Returns:
        The summary.

    Raises:
        UsageError: `out` holds something that is not ours.
        AlreadyRunningError: another demo works in `out`.
        WindlassError: a part failed; no process is left.
    """
    began = time.monotonic()
    _claim(out)
    # a home of its own: the demo starts from nothing and leaves the user's registry alone
    home = replace(settings, home=out / "home", online_store="sqlite", redis_url=None, object_store=None)
    progress = Progress(quiet=quiet)
    with _interrupts(), contextlib.ExitStack() as stack:
        lifeline = Lifeline()
        stack.callback(lifeline.close)
        told = story.make(seed=seed, fast=fast)
        saboteur = Saboteur(seed)
        # before anything is cleared: the lock says whether somebody else works here
        platform = stack.enter_context(Platform(home, replay_clock=True, launcher=saboteur.launch))
        _clear(home)
        memory = PeakMemory()
        record = Record(out / "decisions.jsonl")
        stack.callback(record.close)
        summary, series = _tell(told, home, platform, saboteur, record, progress, stack)
        summary["peak_rss_mb"] = round(memory.stop())
    summary["wall_seconds"] = round(time.monotonic() - began, 1)
    outputs.write(out, summary, record.decisions, series)
    return summary


def _tell(
    told: Story,
    home: Settings,
    platform: Platform,
    saboteur: Saboteur,
    record: Record,
    progress: Progress,
    stack: contextlib.ExitStack,
) -> tuple[dict[str, Any], dict[str, Any]]:
    import uvloop

    from components.registry import Registry
    from windlass.demo.vectors import Vectors
    from windlass.demo.year import Parts, Year
    from windlass.features import offline
    from windlass.features.stream import OnlineStream

    workload = story.adapted(catalog.load(WORKLOAD, home.project), told)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        progress.step(
            "training the first model on January; meanwhile, the features of 2013 as known at each hour"
        )
        job = runner.get_loop().create_task(
            training.run(
                home,
                WORKLOAD,
                told.trained_from,
                told.first_until,
                run_id="first",
                trials=told.trials,
            )
        )
        runner.run(asyncio.sleep(0.05))  # the pipeline's process has started
        # what the pipeline needs comes first: its training set waits for these
        built = offline.build(workload, home)
        progress.step(f"{sum(built.rows.values()):,} feature rows in {len(built.rows)} views")
        frame = workload.prepare(workload.source.load(None))
        by_hour, rows = sampling.sample(workload, frame, told)
        ordered = sorted((r for requests in by_hour.values() for r in requests), key=lambda r: r.row)
        vectors = Vectors(workload, home, rows, [r.request_id for r in ordered])
        stream = stack.enter_context(contextlib.closing(OnlineStream(workload, home)))
        # the past by batch materialization, the hour that begins by push: both ways into a Feast store
        stream.materialize(told.start - max(v.ttl for v in workload.views), told.start - timedelta(hours=1))
        stream.push_hour(told.start)
        platform.start()
        registry = Registry(home)
        registry.connect()
        progress.step("the online store is filled up to the first of February; waiting for the model")
        version = _first_version(runner.run(_result(job)), told, record, progress)
        fitted = Controls(home, WORKLOAD, told.control_window, training.environment(home))
        platform.serve(WORKLOAD, version)
        platform.envoy.set_weights(WORKLOAD, {version: 100})
        described = platform.describe({WORKLOAD: version})
        traffic = Traffic(described["predict_url"], described["feedback_url"], by_hour, told.start)
        progress.step(f"replaying {len(ordered):,} flights (one in {told.sampled_every}) from February on")
        year = Year(
            Parts(
                story=told,
                settings=home,
                workload=workload,
                platform=platform,
                traffic=traffic,
                stream=stream,
                registry=registry,
                record=record,
                progress=progress,
                expected=vectors.expected,
                sabotage=saboteur.sabotage,
                retrained=fitted.start,
            ),
            version,
        )
        runner.run(year.run())
        traffic.close()
    progress.step("scoring the frozen and the control model on the same flights")
    return outputs.build(
        told,
        home,
        workload,
        rows,
        ordered,
        traffic,
        registry,
        record,
        vectors.matrix(),
        fitted.finish(),
        year.champion,
        version,
    )


async def _result(job: asyncio.Task[dict[str, Any]]) -> dict[str, Any]:
    return await job


def _first_version(first: dict[str, Any], told: Story, record: Record, progress: Progress) -> str:
    """Note that the first version serves without a comparison: there is nothing to compare it with.

    Raises:
        WindlassError: it did not pass its gates.
    """
    gates = first["gates"]
    if not first["passed"]:
        failed = ", ".join(
            f"{g['check']} {g['value']} (bound {g['bound']})" for g in gates if not g["passed"]
        )
        raise WindlassError(f"the January model did not pass its gates: {failed}")
    version = str(first["version"])
    values = {g["check"]: g["value"] for g in gates}
    record.decide(told.start, f"release {version}: promote", values, "no champion yet, all gates passed")
    record.releases.append(
        {
            "version": version,
            "strategy": "canary",
            "outcome": "promoted",
            "reason": "first version: its gates passed and there is no champion to compare with",
            "check": None,
            "requests_to_verdict": 0,
            "sabotage": None,
            "at": text(told.start),
        }
    )
    progress.step(f"version {version}: AUC {first['metrics']['auc']:.3f} on its evaluation window, champion")
    return version


class Saboteur:
    """Decides which versions are served wrongly; the only place that knows."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: dict[str, str] = {}

    def sabotage(self, version: str, fault: str) -> None:
        self._faults[version] = fault

    def launch(self, model: str, version: str) -> list[str]:
        """See `windlass.local.platform.Launcher`."""
        fault = self._faults.get(version)
        if fault is None:
            return plain_launcher(model, version)
        return [sys.executable, "-m", "windlass.demo.sabotage", f"{fault}@{self._seed}"]


def table(summary: dict[str, Any], out: Path) -> str:
    """What is printed at the end."""
    return outputs.table(summary, out)


def _claim(out: Path) -> None:
    """Make `out` ours, or refuse a folder with somebody else's files."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise UsageError(f"--out {out} is not empty and was not made by `windlass demo`; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    atomic.write_text(out / MARKER, json.dumps({"made_by": "windlass demo"}) + "\n")


def _clear(home: Settings) -> None:
    """Remove what an earlier demo left, all but the lock that we hold."""
    for folder in (
        home.registry_dir,
        home.bundles_dir,
        home.cache_dir,
        home.runs_dir,
        home.logs_dir,
        home.journal_dir,
        home.run_dir / "releases",
        home.home / "controls",
    ):
        shutil.rmtree(folder, ignore_errors=True)
    for path in home.online_db.parent.glob(f"{home.online_db.name}*"):
        path.unlink()


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """A SIGTERM unwinds like a Ctrl-C, so that everything is ended in order."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
