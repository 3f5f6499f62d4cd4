"""What the running platform does all the time: read the logs, carry out releases, keep processes alive.

The demo does the same in event time with a script of its own (`windlass.demo.year`); the parts are the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.registry import Registry
from monitoring.labels import LabelTail
from monitoring.labels import path as feedback_path
from monitoring.predictions import Prediction, PredictionTail
from monitoring.predictions import folder as prediction_folder
from serving.release.controller import ReleaseController
from serving.release.envoy.access_log import AccessLog
from serving.release.envoy.process import free_port
from serving.release.journal import mailbox
from serving.release.journal.store import DiskStore
from serving.release.people.exporter import Exporter, serve
from serving.release.state import ReleaseState
from windlass.clock import SystemClock
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.local import archive, in_force, plane, positions, release_report
from windlass.local.analysing import AnalysisTask
from windlass.local.platform import Platform
from windlass.local.progress import Progress
from windlass.local.refilling import RefillingTask
from windlass.local.releasing import Releases
from windlass.local.report_keeper import ReportKeeper
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

CHECK_EVERY_S = 1.0


class Loop:
    """One model's platform; `turn` is called a few times a second and never blocks for long."""

    def __init__(self, settings: Settings, workload: Workload, champion: str, *, port: int | None) -> None:
        self._settings = settings
        self._workload = workload
        self.champion = champion
        self._as_of = in_force.clock(settings, workload, champion)
        self._platform = Platform(
            settings,
            port=port,
            replay_clock=self._as_of is not None,
            as_of=None if self._as_of is None else self._as_of.timestamp(),
            lasting=True,
        )
        #: whether an earlier platform's data plane is taken over
        self.resumed = self._platform.resumed
        self._clock = SystemClock()
        self._predictions: PredictionTail | None = None
        self._labels = LabelTail(feedback_path(settings))
        self._accesses: AccessLog | None = None
        self._controller: ReleaseController | None = None
        self._releases: Releases | None = None
        self._exporter = Exporter()
        self._stop_metrics: Callable[[], None] = lambda: None
        self._metrics_port: int | None = None
        self._progress = Progress(quiet=True)
        self._next_check = 0.0
        self._page: ReportKeeper | None = None
        self._analysis: AnalysisTask | None = None
        self._refilling: RefillingTask | None = None

    def start(self, progress: Progress) -> None:
        """Bring everything up; the champion has all the traffic when this returns."""
        self._progress = progress
        if self._platform.adopted:
            progress.step(f"{self._workload.name}: taking over the data plane that serves")
        elif self._workload.views:
            self._fill(progress)
        self._platform.start(progress.step)
        self._platform.serve(self._workload.name, self.champion)
        if not self._platform.envoy.desired(self._workload.name).weights:
            self._platform.envoy.set_weights(self._workload.name, {self.champion: 100})
        self._controller = ReleaseController(
            DiskStore(self._settings.journal_dir / "releases"),
            self._platform.envoy,
            self._clock,
            set_champion=self._set_champion,
            commands=mailbox.OrderBox(mailbox.commands(self._settings)),
            listener=self._exporter,
        )
        self._metrics_port = free_port()
        self._stop_metrics = serve(self._exporter, self._metrics_port)
        # before anything of a live release is carried out: a rollback that waits must not be undone for a moment
        try:
            self._controller.obey_commands()
        except Exception as error:  # the registry's failures; the next turn tries again
            said = str(error).partition("\n")[0]
            progress.step(f"what was ordered is not done yet, the traffic stays as it is: {said}")
        live = self._controller.live(self._workload.name)
        # the evidence of a release that goes on must not start again from nothing
        logs = prediction_folder(self._settings)
        ends = positions.ends(logs)
        begun = (
            ends if live is None else positions.kept(self._settings, live.release.model, live.release.name)
        )
        self._predictions = predictions = PredictionTail(logs, offsets=begun)
        self._accesses = AccessLog(self._platform.envoy.endpoints.access_log, from_end=live is None)
        self._releases = Releases(
            self._settings,
            self._workload,
            self._platform,
            self._controller,
            champion=lambda: self.champion,
            expected=self._expected,
            say=progress.step,
            over=self._over,
            positions=lambda: predictions.offsets,
        )
        # what the last ones sent is what a smoke request sends
        self._releases.add(PredictionTail(logs, offsets=positions.shortly_before(ends)).poll(), (), ())
        self._releases.resume()
        self._page = ReportKeeper(self._settings, self._workload.name, progress.step)
        self._analysis = AnalysisTask(
            self._settings, self._workload.name, progress.step, as_of=self._as_of, trigger=self._trigger
        )
        if self._workload.views and self._as_of is None:  # where the clock stands, nothing grows old
            filled = not self._platform.adopted
            self._refilling = RefillingTask(self._settings, self._workload.name, progress.step, filled=filled)
        newest = self._controller.newest(self._workload.name)
        if newest is not None:
            self._exporter.show(newest)

    def _fill(self, progress: Progress) -> None:
        """Fill the online store; not where it is being read, for it is emptied first."""
        from windlass.features.stream import OnlineStream

        progress.step(f"{self._workload.name}: filling the online store")
        moment = self._as_of or self._clock.now()
        try:
            with contextlib.closing(OnlineStream(self._workload, self._settings)) as stream:
                stream.materialize(moment - max(v.ttl for v in self._workload.views), moment)
                stream.advance(moment)
        except Exception as error:
            if not self.resumed:
                raise
            progress.step(
                f"warning: the online store cannot be filled, features are as they were or defaults: {error}"
            )

    def describe(self) -> dict[str, Any]:
        content = self._platform.describe({self._workload.name: self.champion})
        metrics = None if self._metrics_port is None else f"http://127.0.0.1:{self._metrics_port}/metrics"
        as_of = self._as_of.isoformat() if self._as_of else None
        return {**content, "as_of": as_of, "release_metrics_url": metrics}

    def turn(self) -> None:
        """Read what is new, start what was submitted, look at the live release, restart what died."""
        assert self._predictions is not None and self._accesses is not None  # noqa: S101 - set by start
        assert self._releases is not None  # noqa: S101 - set by start
        predictions: list[Prediction] = self._predictions.poll()
        self._releases.add(predictions, self._accesses.poll(), self._labels.poll())
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_EVERY_S
            self._platform.revive(self._progress.step)
            if self._page is not None:
                self._page.turn(now)
            if self._analysis is not None:
                self._analysis.turn(now)
            if self._refilling is not None:
                self._refilling.turn(now)
        self._releases.turn(now)

    def close(self, *, leave: bool = False) -> None:
        """End everything, or, with `leave`, this engine alone: what serves goes on."""
        self._stop_metrics()
        if self._page is not None:
            self._page.close()
        if self._analysis is not None:
            self._analysis.close()
        if self._refilling is not None:
            self._refilling.close()
        if self._controller is not None:
            self._controller.close()
        if leave:
            self._platform.leave()
            return
        self._platform.stop()
        sent = archive.publish_logs(self._settings)
        if sent:
            self._progress.step(f"{sent} log files published to {self._settings.object_store}")

    def _trigger(self) -> tuple[str, Path] | None:
        """Where the retrain trigger takes events, and the file with its token."""
        running = self._platform.retrain
        return None if running is None else (f"http://{plane.address(running)}", plane.token(self._settings))

    def _over(self, state: ReleaseState) -> None:
        """The page of a release that has ended, and the registry's word on its candidates."""
        page = release_report.write(self._settings, state.release.model, state.release.name)
        self._progress.step(f"release {state.release.name}: its report is {page}")
        for version in rejected(state, self.champion):
            Registry(self._settings).set_state(state.release.model, version, "rolled_back")

    def _set_champion(self, model: str, version: str) -> None:
        # the engine's own answer first: what is served must not wait for the registry
        self.champion = version
        try:
            Registry(self._settings).set_champion(model, version)
        except WindlassError:
            raise
        except Exception as error:  # a database's failures are of many kinds
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WindlassError(
                f"the registry does not take version {version} as champion of {model}: {words}"
            ) from error

    def _expected(self, predictions: Sequence[Prediction]) -> pd.DataFrame:
        import pandas as pd

        from windlass.features import asof

        frame = pd.DataFrame([dict(p.entities) for p in predictions])
        times = pd.to_datetime([p.at for p in predictions], unit="s", utc=True)
        frame["event_timestamp"] = times.astype("datetime64[us, UTC]")
        return asof.lookup(self._workload, self._settings, frame)


def rejected(state: ReleaseState, champion: str) -> tuple[str, ...]:
    """Candidates of a release that has ended whom it took back; a rollback may have gone to one of them."""
    if state.phase != "RolledBack":
        return ()
    return tuple(v for v in state.release.candidates if v != champion and not state.weights.get(v))
