"""The releases of one model on this machine: begin them, gather their evidence, look, and tidy up when they are over.

The engine's rules are in `serving/release`; this is the platform's side, with servers, logs and the registry.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from monitoring.labels import Label
from monitoring.predictions import Prediction
from serving.release.controller import ReleaseController
from serving.release.decision import Decision
from serving.release.envoy.access_log import Access
from serving.release.journal import mailbox, refusals
from serving.release.probe import DirectProber, Probing
from serving.release.release import BlueGreen, Release, Shadow
from serving.release.state import ReleaseState
from windlass.contract import Workload
from windlass.errors import UsageError, WindlassError
from windlass.local import positions
from windlass.local.copies import Copies
from windlass.local.platform import Platform
from windlass.local.scraped import ScrapedAnswers
from windlass.local.told import Told
from windlass.local.watch import SKEW_BATCH, Expected, ReleaseWatch
from windlass.settings import Settings

if TYPE_CHECKING:
    from serving.release.envoy.admin import Counted

#: However old a step is: a guardrail that fails must not wait.
LOOK_EVERY_S = 1.0
SKEW_EVERY_S = 30.0
#: Until the end of a release is told once more, where the registry did not take it.
TELL_AGAIN_S = 10.0
#: Times that a candidate's server may fail to start before its release is refused.
STARTS = 3


class Releases:
    """What the platform does for one model's releases.

    Args:
        champion: the version in force.
        say: takes one line of progress.
        over: called with the state of each release that has ended, again until it succeeds.
        positions: how far the prediction logs have been read.
    """

    def __init__(
        self,
        settings: Settings,
        workload: Workload,
        platform: Platform,
        controller: ReleaseController,
        *,
        champion: Callable[[], str],
        expected: Expected,
        say: Callable[[str], None],
        over: Callable[[ReleaseState], None],
        positions: Callable[[], Mapping[str, int]],
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._platform = platform
        self._controller = controller
        self._champion = champion
        self._expected = expected
        self._say = say
        self._over = over
        self._positions = positions
        self._watch: ReleaseWatch | None = None
        self._probing: Probing | None = None
        self._last_request: dict[str, Any] | None = None
        self._next_look = self._next_skew = self._next_tale = 0.0
        self._trouble: str | None = None
        self._told = Told(settings, workload.name)
        self._end: tuple[str, str] | None = None
        self._untold: list[ReleaseState] = []
        self._unstarted: Counter[str] = Counter()

    @property
    def model(self) -> str:
        return self._workload.name

    def begin(self, release: Release) -> None:
        """Start a release that was submitted; one that can never start says why.

        Raises:
            Exception: what failed may succeed later: the release is to be begun again.
        """
        try:
            self._begin(release)
        except UsageError as error:
            self._refuse(release, error)

    def _refuse(self, release: Release, error: UsageError) -> None:
        refusals.record(self._settings, release.model, release.name, str(error), datetime.now(UTC))
        self._say(f"release {release.name} refused: {error}")

    def _begin(self, release: Release) -> None:
        if release.model != self.model:
            raise UsageError(f"model {release.model} is not served here")
        self._require_local(release)
        for version in release.candidates:
            if not (self._settings.bundles_dir / self.model / version / "serving.json").is_file():
                raise UsageError(f"version {version} of {self.model} has no bundle on this machine")
        live = self._controller.live(self.model)
        if live is not None and live.release == release and self._watch is not None:
            return  # it is under way, and its evidence must not begin anew
        newest = self._controller.newest(self.model)
        if newest is not None and not newest.live and newest.release == release:
            return  # a letter that a crash left behind: this very release has begun, and is over
        if live is None or live.release == release:
            # behind another one it is queued or refused, and needs no servers yet
            for version in release.candidates:
                self._serve(release, version)
        if live is None:
            positions.keep(self._settings, self.model, release.name, self._positions())
        try:
            decision = self._controller.start(release, self._champion())
        except UsageError:
            if live is None:
                self._retire()
            raise
        refusals.clear(self._settings, release.model, release.name)
        live = self._controller.live(self.model)
        if live is not None and live.release == release:
            self._observe(live)
        self._say(f"release {release.name}: {decision.reason}")

    def _serve(self, release: Release, version: str) -> None:
        try:
            self._platform.serve(release.model, version)
        except WindlassError as error:
            self._unstarted[release.name] += 1
            if self._unstarted[release.name] < STARTS:
                raise
            del self._unstarted[release.name]
            raise UsageError(
                f"the server of version {version} did not start in {STARTS} tries: {error}"
            ) from error

    def _require_local(self, release: Release) -> None:
        if release.backend != "local":
            raise UsageError(
                f"spec.backend = {release.backend!r} is carried out on a cluster; this platform is local"
            )
        if self._settings.prometheus_url is None:
            for check in release.checks:
                if check.source == "prometheus":
                    raise UsageError(
                        f"check {check.name} asks Prometheus and nobody says where it is; set "
                        "WINDLASS_PROMETHEUS_URL, or use source: envoy"
                    )

    def resume(self) -> None:
        """Go on with the release that was live when the last platform ended."""
        live = self._controller.live(self.model)
        if live is not None:
            for version in live.traffic.versions:
                self._attempt(functools.partial(self._platform.serve, self.model, version))
            self._observe(live)
        self._attempt(self._controller.recover)

    def add(
        self, predictions: Sequence[Prediction], accesses: Sequence[Access], labels: Sequence[Label]
    ) -> None:
        """Take what is new in the logs; in those of predictions, since the live release began."""
        for prediction in predictions:
            row = {**prediction.entities, **prediction.request}
            # of what was sent as a matrix or as tensors only the numbers are kept, and they are no request
            if row and prediction.model == self.model and not prediction.mirrored:
                self._last_request = {"instances": [row]}
        watch = self._watch
        if watch is not None:
            watch.add_predictions(predictions)
            watch.add_accesses(accesses)
            watch.add_labels(labels)

    def turn(self, now: float) -> None:
        """Obey commands, start what was submitted, and look where a look is due.

        Args:
            now: a monotonic clock's seconds.
        """
        self._attempt(self._controller.obey_commands)
        self._attempt(self._submitted)
        live = self._controller.live(self.model)
        if live is not None and now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self._look(live, now)
        elif live is None:
            # an alias that could not be moved, or traffic that could not be set, when it was decided
            self._attempt(lambda: self._controller.settle(self.model))
        newest = self._controller.newest(self.model)
        if newest is not None and not newest.live:
            self._ended(newest)
        if self._untold and now >= self._next_tale:
            self._next_tale = now + TELL_AGAIN_S
            self._attempt(self._tell)

    def _submitted(self) -> None:
        for path, release in mailbox.submissions(mailbox.inbox(self._settings)):
            self.begin(release)
            path.unlink(missing_ok=True)

    # --- one release

    def _observe(self, live: ReleaseState) -> None:
        release = live.release
        inputs = {}
        for version in release.candidates:
            bundle = self._settings.bundles_dir / self.model / version / "serving.json"
            inputs[version] = json.loads(bundle.read_text())["inputs"]
        copies = None
        if isinstance(release.strategy, Shadow):
            kept = self._settings.run_dir / "releases" / "copies" / f"{release.name}.json"
            copies = Copies(self._count_copies(release.candidate), kept)
        began = live.started_at or datetime.now(UTC)
        answers = None
        if any(check.source == "prometheus" for check in release.checks) and self._settings.prometheus_url:
            kept = self._settings.run_dir / "releases" / "prometheus" / f"{release.name}.json"
            versions = (live.champion, *release.candidates)
            answers = ScrapedAnswers(self._settings.prometheus_url, self.model, versions, began, kept)
        costs = self._workload.false_positive_cost, self._workload.false_negative_cost
        self._watch = ReleaseWatch(
            release,
            live.champion,
            began.timestamp(),
            inputs,
            self._expected,
            copies=copies,
            answers=answers,
            counted=functools.partial(self._count_answers, (live.champion, *release.candidates)),
            # where a false alarm costs as much as is saved in expectation
            threshold=costs[0] / (costs[0] + costs[1]),
        )
        self._stop_probing()
        self._next_look = 0.0

    def _count_answers(self, versions: Sequence[str]) -> int:
        counted = [self._platform.envoy.admin.counted(self.model, version) for version in versions]
        return sum(count.answered + count.failed for count in counted)

    def _count_copies(self, version: str) -> Callable[[], Counted]:
        return lambda: self._platform.envoy.admin.counted(self.model, version, copies=True)

    def _look(self, live: ReleaseState, now: float) -> None:
        if self._watch is None:
            self._observe(live)
        watch = self._watch
        assert watch is not None  # noqa: S101 - just made
        watch.check_skew(at_least=SKEW_BATCH if now < self._next_skew else 1)
        if now >= self._next_skew:
            self._next_skew = now + SKEW_EVERY_S
        if live.enrolled_until is not None:
            # how long a pause lasts, and with it the end, is known when it is over
            watch.enrol_until(math.inf if live.enrolment_paused else live.enrolled_until.timestamp())
        self._attempt(lambda: self._smoke(live, watch))
        moment = datetime.now(UTC)
        decision = self._attempt(lambda: self._controller.observe(self.model, watch.evidence(moment)))
        if isinstance(decision, Decision) and (decision.action != "hold" or decision.alert):
            self._say(f"release {live.release.name}: {decision.action}: {decision.alert or decision.reason}")

    def _smoke(self, live: ReleaseState, watch: ReleaseWatch) -> None:
        strategy = live.release.strategy
        if not isinstance(strategy, BlueGreen) or live.step != 0:
            return
        if watch.smoke is not None and (watch.smoke.tried or self._last_request is None):
            return
        if self._probing is None:
            version = live.release.candidate
            address = self._platform.envoy.desired(self.model).servers[version]
            prober = DirectProber(self.model, address, self._last_request)
            self._probing = Probing(prober, strategy.smoke, strategy.warm_up)
        found = self._probing.found
        if found is None:
            return
        watch.smoke = found
        if not found.tried:
            self._probing = None

    def _stop_probing(self) -> None:
        if self._probing is not None:
            self._probing.stop()
            self._probing = None

    def _ended(self, state: ReleaseState) -> None:
        self._watch = None
        self._stop_probing()
        # also after a promotion that a person has taken back
        if self._end != (state.release.name, state.phase):
            self._end = state.release.name, state.phase
            if not self._told.was(state):
                self._untold.append(state)
                self._next_tale = 0.0
            self._attempt(self._retire)
        queued = self._controller.next_queued(self.model)
        if queued is not None:
            self._attempt(lambda: self._dequeue(queued))

    def _tell(self) -> None:
        """Tell the ends that are not told, the oldest first; whatever began since then."""
        while self._untold:
            self._over(self._untold[0])
            self._told.keep(self._untold.pop(0))

    def _dequeue(self, release: Release) -> None:
        """Begin the next release of the queue; one that can never start is taken out and told."""
        try:
            self._begin(release)
        except UsageError as error:
            self._refuse(release, error)
            self._controller.drop_queued(release)

    def _retire(self) -> None:
        """End servers that nobody needs: what is in force and what was before it stay warm."""
        route = self._platform.envoy.desired(self.model)
        for model, version in list(self._platform.servers):
            if model == self.model and version not in (route.stable, route.previous, *route.weights):
                self._platform.retire(model, version)

    def _attempt(self, act: Callable[[], Any]) -> Any:
        """Do it; what fails is told once and tried again at the next turn."""
        try:
            done = act()
        # a registry or a proxy fails in ways of its own; the platform must go on serving
        except Exception as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._say(f"releases of {self.model}: {error}; it is tried again")
            return None
        return done
