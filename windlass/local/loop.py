"""What the running platform does all the time: read the logs, carry out releases, keep processes alive.

The demo does the same in event time with a script of its own (`windlass.demo.year`); the parts are the same.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from components.registry import Registry
from monitoring.joined import Joined
from monitoring.labels import LabelTail
from monitoring.labels import path as feedback_path
from monitoring.predictions import Prediction, PredictionTail
from monitoring.predictions import folder as prediction_folder
from serving.release import mailbox
from serving.release.access_log import AccessLog
from serving.release.controller import Conflict, ReleaseController
from serving.release.release import Release
from windlass.clock import SystemClock
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.local import archive
from windlass.local.platform import Platform
from windlass.local.progress import Progress
from windlass.local.standing import standing_clock
from windlass.local.watch import SKEW_BATCH, ReleaseWatch
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

LOOK_EVERY_S = 1.0
SKEW_EVERY_S = 30.0


class Loop:
    """One model's platform; `turn` is called a few times a second and never blocks for long."""

    def __init__(self, settings: Settings, workload: Workload, champion: str, *, port: int | None) -> None:
        self._settings = settings
        self._workload = workload
        self.champion = champion
        trained_to = datetime.fromisoformat(Registry(settings).info(workload.name, champion).trained_to)
        self._as_of = standing_clock(workload, trained_to, datetime.now(UTC))
        self._platform = Platform(
            settings,
            port=port,
            replay_clock=self._as_of is not None,
            as_of=None if self._as_of is None else self._as_of.timestamp(),
        )
        self._clock = SystemClock()
        self._joined = Joined()
        self._predictions = PredictionTail(prediction_folder(settings))
        self._labels = LabelTail(feedback_path(settings))
        self._accesses: AccessLog | None = None
        self._controller: ReleaseController | None = None
        self._watch: ReleaseWatch | None = None
        self._progress = Progress(quiet=True)
        self._next_look = self._next_skew = 0.0

    def start(self, progress: Progress) -> None:
        """Bring everything up; the champion has all the traffic when this returns."""
        from windlass.features.stream import OnlineStream

        self._progress = progress
        progress.step(f"{self._workload.name}: filling the online store")
        moment = self._as_of or self._clock.now()
        with contextlib.closing(OnlineStream(self._workload, self._settings)) as stream:
            stream.materialize(moment - max(v.ttl for v in self._workload.views), moment)
            stream.advance(moment)
        self._platform.start()
        self._platform.serve(self._workload.name, self.champion)
        self._platform.envoy.set_weights(self._workload.name, {self.champion: 100})
        self._controller = ReleaseController(
            self._settings.journal_dir / "releases",
            self._platform.envoy,
            self._clock,
            set_champion=self._set_champion,
            commands=mailbox.commands(self._settings),
        )
        self._resume()

    def describe(self) -> dict[str, Any]:
        content = self._platform.describe({self._workload.name: self.champion})
        return {**content, "as_of": self._as_of.isoformat() if self._as_of else None}

    def turn(self) -> None:
        """Read what is new, start what was submitted, look at the live release, restart what died."""
        predictions: list[Prediction] = self._predictions.poll()
        assert self._accesses is not None and self._controller is not None  # noqa: S101 - set by start
        accesses = self._accesses.poll()
        self._joined.add_predictions(predictions)
        self._joined.add_labels(self._labels.poll())
        if self._watch is not None:
            self._watch.add_predictions(predictions)
            self._watch.add_accesses([a for a in accesses if a.at >= self._watch.since])
        for path, release in mailbox.submissions(mailbox.inbox(self._settings)):
            self._begin(release)
            path.unlink(missing_ok=True)
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self._revive()
            self._look(now)

    def close(self) -> None:
        if self._controller is not None:
            self._controller.close()
        self._platform.stop()
        sent = archive.publish_logs(self._settings)
        if sent:
            self._progress.step(f"{sent} log files published to {self._settings.object_store}")

    # --- releases

    def _begin(self, release: Release) -> None:
        assert self._controller is not None  # noqa: S101 - set by start
        if release.model != self._workload.name:
            self._progress.step(f"release {release.name} refused: model {release.model} is not served here")
            return
        try:
            self._platform.serve(release.model, release.candidate)
            decision = self._controller.start(release, self.champion)
        except (Conflict, WindlassError) as error:
            self._progress.step(f"release {release.name} refused: {error}")
            return
        self._observe(release.candidate, datetime.now(UTC).timestamp())
        self._progress.step(f"release {release.name}: {decision.reason}")

    def _resume(self) -> None:
        """Go on with the release that was live when the last platform ended."""
        assert self._controller is not None  # noqa: S101 - set by start
        live = self._controller.live(self._workload.name)
        # the evidence of a release that goes on must not start again from nothing
        self._accesses = AccessLog(self._platform.envoy.endpoints.access_log, from_end=live is None)
        if live is not None:
            self._platform.serve(self._workload.name, live.release.candidate)
            began = live.started_at or self._clock.now()
            self._observe(live.release.candidate, began.timestamp())
        self._controller.recover()

    def _observe(self, candidate: str, since: float) -> None:
        bundle = self._settings.bundles_dir / self._workload.name / candidate / "serving.json"
        inputs = json.loads(bundle.read_text())["inputs"]
        self._watch = ReleaseWatch(
            self._workload.name, self.champion, candidate, since, inputs, self._expected
        )

    def _look(self, now: float) -> None:
        controller, watch = self._controller, self._watch
        assert controller is not None  # noqa: S101 - set by start
        model = self._workload.name
        controller.obey_commands()
        if watch is None:
            return
        watch.check_skew(at_least=SKEW_BATCH if now < self._next_skew else 1)
        if now >= self._next_skew:
            self._next_skew = now + SKEW_EVERY_S
        if controller.live(model) is not None:
            decision = controller.observe(model, watch.evidence(self._clock.now(), self._joined))
            if decision.action != "hold":
                self._progress.step(f"version {watch.candidate}: {decision.action}: {decision.reason}")
        newest = controller.newest(model)
        if newest is not None and not newest.live:
            if newest.phase == "RolledBack":
                Registry(self._settings).set_state(model, newest.release.candidate, "rolled_back")
            self._watch = None
            if (queued := controller.next_queued(model)) is not None:
                self._begin(queued)

    def _set_champion(self, model: str, version: str) -> None:
        Registry(self._settings).set_champion(model, version)
        self.champion = version

    def _expected(self, predictions: Sequence[Prediction]) -> pd.DataFrame:
        import pandas as pd

        from windlass.features import asof

        frame = pd.DataFrame([dict(p.entities) for p in predictions])
        times = pd.to_datetime([p.at for p in predictions], unit="s", utc=True)
        frame["event_timestamp"] = times.astype("datetime64[us, UTC]")
        return asof.lookup(self._workload, self._settings, frame)

    def _revive(self) -> None:
        for (model, version), child in list(self._platform.servers.items()):
            if not child.alive():
                self._progress.step(f"{child.name} died (code {child.process.returncode}); starting it again")
                self._platform.servers.pop((model, version))
                self._platform.serve(model, version)
