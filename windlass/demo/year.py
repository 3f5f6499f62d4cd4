"""The year: what happens at each hour of event time, from the first release to the last label."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from components import release_request
from monitoring import drift, performance
from monitoring.joined import Joined
from monitoring.labels import LabelTail
from monitoring.labels import path as feedback_path
from monitoring.predictions import Prediction, PredictionTail
from monitoring.predictions import folder as prediction_folder
from monitoring.reference import Reference, of_version
from monitoring.retrain.journal import Trigger
from monitoring.retrain.journal import path as trigger_path
from monitoring.retrain.signals import Signal, incident
from serving.release import spec
from serving.release.controller import ReleaseController
from serving.release.decision import Decision
from serving.release.envoy.access_log import AccessLog
from serving.release.journal.store import DiskStore
from windlass.clock import ManualClock
from windlass.contract import Workload
from windlass.demo import training
from windlass.demo.record import Record, text
from windlass.demo.replay import Traffic, moment
from windlass.demo.sampling import HOUR, Request
from windlass.demo.story import Sabotage, Story
from windlass.local.platform import Platform
from windlass.local.progress import Progress
from windlass.local.watch import Expected, ReleaseWatch
from windlass.settings import Settings

if TYPE_CHECKING:
    from components.registry import Registry
    from windlass.features.stream import OnlineStream

DAILY_AT = 9 * HOUR
"""Seconds after midnight UTC of the daily look: five in the morning in New York, when hardly anything flies."""
LOOK_EVERY_HOURS = 2
LOGS_WITHIN_S = 5.0


@dataclass(frozen=True)
class Candidate:
    """A version that waits for its release, or is in it."""

    version: str
    ready_at: datetime
    trigger: str | None = None
    sabotage: str | None = None


@dataclass
class Parts:
    """What the year works with."""

    story: Story
    settings: Settings
    workload: Workload
    platform: Platform
    traffic: Traffic
    stream: OnlineStream
    registry: Registry
    record: Record
    progress: Progress
    expected: Expected
    sabotage: Callable[[str, str], None]
    retrained: Callable[[dict[str, Any], datetime, datetime], None]


class Year:
    """One replay; `run` returns when the last label has arrived."""

    def __init__(self, parts: Parts, champion: str) -> None:
        self._p = parts
        self.champion = champion
        model = parts.workload.name
        self.clock = ManualClock(parts.story.start)
        self.joined = Joined()
        self._predictions = PredictionTail(prediction_folder(parts.settings))
        self._labels = LabelTail(feedback_path(parts.settings))
        self._accesses = AccessLog(parts.platform.envoy.endpoints.access_log)
        self._controller = ReleaseController(
            DiskStore(parts.settings.journal_dir / "releases"),
            parts.platform.envoy,
            self.clock,
            set_champion=self._promote,
        )
        self._trigger = Trigger(
            model,
            parts.workload.retrain,
            trigger_path(parts.settings),
            self._submit,
            total_budget=parts.story.pipeline_runs,
        )
        self._watch: ReleaseWatch | None = None
        self._released: Candidate | None = None
        self._waiting: list[Candidate] = []
        self._submitted: list[tuple[str, datetime]] = []
        self._sabotages = list(parts.story.sabotages)
        self._retire: list[tuple[datetime, str]] = []
        self._next_drift = parts.story.start + parts.story.drift_window
        self._unsettled: list[Request] = []
        self._of_champion: tuple[str, Reference] | None = None

    def _began(self) -> None:
        """Journal the first model as what it was, a training that a person asked for: the cool-down begins with it."""
        start = self._p.story.start
        decision = self._trigger.offer(Signal("manual", "first model", start), start, live_release=False)
        assert decision.trigger is not None  # noqa: S101 - an empty journal accepts
        self._submitted.clear()
        self._trigger.resolved(
            decision.trigger, start, helped=True, reason="the first champion", version=self.champion
        )
        self._p.record.trigger(start, "manual", True, "the first model, trained by hand")

    async def run(self) -> None:
        story, p = self._p.story, self._p
        self._began()
        p.record.split(story.start, {self.champion: 100})
        last = int((story.end + timedelta(days=2)).timestamp())
        hour = p.traffic.hour
        month = ""
        while hour < last:
            self.clock.advance_to(moment(hour))
            if p.traffic.asks(hour):
                if self._watch is not None:
                    # a copy that is still under way must not be answered with the features of the next hour
                    await self._settle()
                # nobody looks in between: an hour without a request needs no write of its own
                p.stream.advance(moment(hour))
            requests = await p.traffic.send_hour(hour)
            await p.traffic.send_labels(hour)
            self.clock.advance_to(moment(hour + HOUR))
            self._unsettled += requests
            if self._watch is not None and hour // HOUR % LOOK_EVERY_HOURS == 0:
                await self._judge()
            if hour % 86400 == DAILY_AT:
                await self._daily()
                if f"{moment(hour):%B}" != month and moment(hour) < story.end:
                    month = f"{moment(hour):%B}"
                    p.progress.step(f"{month}: {self._standing()}")
                p.progress.update(f"{moment(hour):%d %B}: {self._standing()}")
            hour += HOUR
        await self._settle()

    def _standing(self) -> str:
        weights = " ".join(
            f"v{v}:{w}%" for v, w in self._p.platform.envoy.desired(self._p.workload.name).weights.items()
        )
        traffic = self._p.traffic
        done, failed = len(traffic.outcomes.status), traffic.outcomes.failed
        return f"{done:,} requests, {failed} failed, {traffic.labels_sent:,} labels, {weights}"

    # --- releases

    async def _judge(self) -> None:
        """One look of the release engine, after everything since the last one is in the logs."""
        watch, released = self._watch, self._released
        assert watch is not None and released is not None  # noqa: S101 - both or neither are set
        await self._settle()
        watch.check_skew()
        began = time.perf_counter()
        decision = self._controller.observe(watch.model, watch.evidence(self.clock.now()))
        seconds = time.perf_counter() - began
        self._note(released.version, decision)
        if decision.action in ("promote", "roll_back", "abort"):
            self._finish(released, watch, decision, seconds)

    def _note(self, version: str, decision: Decision) -> None:
        now = self.clock.now()
        for verdict in decision.verdicts:
            self._p.record.verdict(
                version,
                verdict.check,
                {
                    "at": text(now),
                    "n": verdict.n,
                    "estimate": verdict.estimate,
                    "lower": verdict.lower,
                    "upper": verdict.upper,
                    "bound": verdict.bound,
                    "verdict": verdict.outcome,
                },
            )
        if decision.action == "hold":
            return
        self._p.record.split(now, dict(decision.weights))
        inputs = {
            "requests": decision.requests,
            "weights": dict(decision.weights),
            "checks": {
                v.check: {"outcome": v.outcome, "n": v.n, "estimate": _short(v.estimate)}
                for v in decision.verdicts
            },
        }
        self._p.record.decide(
            now, f"release {version}: {decision.action}", inputs, decision.check or decision.reason
        )

    def _finish(self, released: Candidate, watch: ReleaseWatch, decision: Decision, seconds: float) -> None:
        now = self.clock.now()
        promoted = decision.action == "promote"
        outcome = (
            "promoted" if promoted else "rolled_back" if decision.action == "roll_back" else "inconclusive"
        )
        reason = decision.reason
        if decision.check is not None and watch.skew_by_input and "skew" in decision.check.lower():
            reason += "; most often " + ", ".join(f"{n} ({c})" for n, c in watch.skew_by_input.most_common(3))
        self._p.record.releases.append(
            {
                "version": released.version,
                "strategy": "canary",
                "outcome": outcome,
                "reason": reason,
                "check": decision.check,
                "requests_to_verdict": decision.requests,
                "sabotage": released.sabotage,
                "at": text(now),
            }
        )
        outcomes = self._p.traffic.outcomes
        failed = sum(
            1 for r, v in outcomes.version.items() if v == released.version and outcomes.status[r] != 200
        )
        if not promoted:
            self._p.registry.set_state(watch.model, released.version, outcome)
        if outcome == "rolled_back":
            self._p.record.rollbacks.append(
                {"version": released.version, "seconds": round(seconds, 4), "failed_requests": failed}
            )
        self._p.progress.step(
            f"{now:%d %b}: version {released.version} {outcome.replace('_', ' ')}: {reason}"
        )
        if released.trigger is not None:
            self._trigger.resolved(
                released.trigger, now, helped=promoted, reason=reason, version=released.version
            )
        loser = watch.champion if promoted else released.version
        self._retire.append((now + self._p.story.keep_warm, loser))
        self._watch = self._released = None

    def _promote(self, model: str, version: str) -> None:
        self._p.registry.set_champion(model, version)
        self.champion = version

    async def _release(self, candidate: Candidate) -> None:
        p, now, model = self._p, self.clock.now(), self._p.workload.name
        p.platform.serve(model, candidate.version)
        await self._settle()
        document = release_request.document(p.workload, candidate.version, self.champion)
        inputs = json.loads(
            (p.settings.bundles_dir / model / candidate.version / "serving.json").read_text()
        )["inputs"]
        release = spec.parse(document)
        self._watch = ReleaseWatch(
            release, self.champion, now.timestamp(), {candidate.version: inputs}, p.expected, replay=True
        )
        self._released = candidate
        decision = self._controller.start(release, self.champion)
        self._note(candidate.version, decision)
        p.progress.step(f"{now:%d %b}: release of version {candidate.version} begins: {decision.reason}")

    # --- the daily look

    async def _daily(self) -> None:
        now, p = self.clock.now(), self._p
        for due, version in list(self._retire):
            if now >= due and version != self.champion:
                p.platform.retire(p.workload.name, version)
                self._retire.remove((due, version))
        if now < p.story.end:
            await self._finish_runs()
            await self._next_release()
            if now >= self._next_drift:
                self._next_drift += p.story.drift_every
                await self._settle()
                self._monitor()
                await self._finish_runs()

    async def _next_release(self) -> None:
        now = self.clock.now()
        if self._watch is not None:
            return
        ready = [c for c in self._waiting if now >= c.ready_at]
        if ready:
            self._waiting.remove(ready[0])
            await self._release(ready[0])
        elif self._sabotages and now >= self._sabotages[0].at:
            await self._release(self._rebuild(self._sabotages.pop(0)))

    def _rebuild(self, sabotage: Sabotage) -> Candidate:
        """Register the champion's artifacts once more; only the saboteur knows what its server will do."""
        p = self._p
        version = p.registry.copy(p.workload.name, self.champion, {"windlass.rebuild_of": self.champion})
        p.sabotage(version, sabotage.fault)
        return Candidate(version, self.clock.now(), sabotage=sabotage.kind)

    def _monitor(self) -> None:
        """Drift and measured performance of the last window; what stands out is offered to the trigger."""
        p, now, model = self._p, self.clock.now(), self._p.workload.name
        since = (now - p.story.drift_window).timestamp()
        window = self.joined.window(model, since=since, until=now.timestamp(), versions=[self.champion])
        reference = self._reference()
        measured = drift.measure(reference, window.features, window.scores)
        for feature in measured.features:
            if feature.value is not None:
                p.record.drift.append(
                    {
                        "at": text(now),
                        "feature": feature.feature,
                        "score": round(feature.value, 5),
                        "threshold": feature.threshold,
                    }
                )
        signals = []
        if measured.verdict == "FAIL":
            top = {f.feature: round(f.value or 0.0, 3) for f in measured.drifted[:5]}
            signals.append(
                ("featureDrift", measured.reason, {"share": round(measured.share, 3), "worst": top})
            )
        if measured.prediction_verdict == "FAIL" and measured.prediction is not None:
            signals.append(
                (
                    "predictionDrift",
                    "the scores drifted",
                    {"score": round(measured.prediction.value or 0.0, 3)},
                )
            )
        if reference.evaluation is not None:
            decay = performance.decay(reference.evaluation, performance.measure(*window.matured()))
            if decay.verdict == "FAIL":
                signals.append(
                    (
                        "performanceDecay",
                        decay.reason,
                        {"auc": round(decay.current.auc, 4), "n": decay.current.n},
                    )
                )
        for kind, reason, detail in signals:
            self._offer(kind, reason, detail)

    def _reference(self) -> Reference:
        """What the champion was trained on; read once for each champion."""
        if self._of_champion is None or self._of_champion[0] != self.champion:
            name = self._p.workload.name
            self._of_champion = self.champion, of_version(self._p.settings, name, self.champion)
        return self._of_champion[1]

    def _offer(self, kind: Any, reason: str, detail: dict[str, Any]) -> None:
        now = self.clock.now()
        signal = Signal(kind, incident(kind, self.champion, self._trigger.history()), now, detail)
        decision = self._trigger.offer(
            signal,
            now,
            live_release=self._watch is not None,
            run_active=len(self._waiting) + len(self._submitted),
        )
        why = f"{reason}; {decision.reason}"
        self._p.record.trigger(now, kind, decision.accepted, why)
        self._p.record.decide(
            now, f"signal {kind}: {'accepted' if decision.accepted else 'refused'}", detail, decision.rule
        )
        if decision.accepted:
            self._p.progress.step(f"{now:%d %b}: {kind} starts a retraining: {reason}")

    # --- pipeline runs

    def _submit(self, trigger: str, signal: Signal) -> str:
        self._submitted.append((trigger, signal.at))
        return trigger

    async def _finish_runs(self) -> None:
        p = self._p
        while self._submitted:
            trigger, at = self._submitted.pop(0)
            day = at.replace(hour=0, minute=0, second=0, microsecond=0)
            result = await training.run(
                p.settings,
                p.workload.name,
                p.story.trained_from,
                day,
                run_id=trigger,
                trials=p.story.trials,
            )
            now = self.clock.now()
            self._trigger.finished(trigger, now, version=result["version"])
            failed = [g["check"] for g in result["gates"] if not g["passed"]]
            gates = {
                g["check"]: {"value": _short(g["value"]), "bound": g["bound"], "passed": g["passed"]}
                for g in result["gates"]
            }
            verdict = "passed" if result["passed"] else "failed"
            p.record.decide(
                now,
                f"gate of version {result['version']}: {verdict}",
                gates,
                ", ".join(failed) or "all checks",
            )
            auc = result["metrics"]["auc"]
            p.progress.step(
                f"{now:%d %b}: version {result['version']} trained, AUC {auc:.3f}, gates {verdict} {', '.join(failed)}"
            )
            p.retrained(result["estimator"], day, now + p.story.pipeline_delay)
            if result["passed"]:
                self._waiting.append(Candidate(str(result["version"]), now + p.story.pipeline_delay, trigger))
            else:
                self._trigger.resolved(
                    trigger, now, helped=False, reason=f"gates failed: {', '.join(failed)}"
                )

    # --- logs

    async def _settle(self) -> None:
        """Read the logs until every answer since the last call is in them, the mirrored copies included.

        Whoever looks before that would see what a fast machine has written and a slow one has not.
        """
        watch = self._watch
        requests, self._unsettled = self._unsettled, []
        outcomes = self._p.traffic.outcomes
        wanted = {r.request_id for r in requests if outcomes.status.get(r.row) == 200}
        logged: dict[str, int] = dict.fromkeys(wanted, 0)
        accessed: set[str] = set()
        copies = 2 if watch is not None and self._p.platform.envoy.desired(watch.model).mirrors else 1
        deadline = time.monotonic() + LOGS_WITHIN_S
        while True:
            predictions: list[Prediction] = self._predictions.poll()
            accesses = self._accesses.poll()
            self.joined.add_predictions(predictions)
            labels = self._labels.poll()
            self.joined.add_labels(labels)
            if watch is not None:
                watch.add_predictions(predictions)
                watch.add_accesses(accesses)
                watch.add_labels(labels)
            for p in predictions:
                if p.request_id in logged:
                    logged[p.request_id] += 1
            accessed.update(a.request_id for a in accesses)
            if (
                wanted <= accessed and all(n >= copies for n in logged.values())
            ) or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.002)


def _short(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)
