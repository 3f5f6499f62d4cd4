"""Every strategy on one real platform: real Envoy, real model servers, real logs; only the load is ours.

One platform serves them all, one after the other, and each release is decided by what the engine saw in the logs.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import planes
import pytest

from monitoring.labels import LabelTail
from monitoring.labels import path as feedback_path
from monitoring.predictions import PredictionTail
from monitoring.predictions import folder as prediction_folder
from serving.release import spec
from serving.release.controller import ReleaseController
from serving.release.envoy.access_log import AccessLog
from serving.release.journal import history, replay
from serving.release.journal.store import DiskStore
from windlass import catalog, journal
from windlass.clock import SystemClock
from windlass.local.client import Client
from windlass.local.platform import Platform
from windlass.local.releasing import Releases

pytestmark = pytest.mark.slow

MODEL = planes.MODEL
ERRORS = {
    "name": "errors",
    "kind": "guardrail",
    "metric": "errorRate",
    "source": "envoy",
    "relativeToChampion": True,
}
BOUNDED = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 5}
SAME = {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 10}
COPIES = {**ERRORS, "name": "copies", "source": "predictions"}
BOUGHT = {
    "name": "bought",
    "kind": "decision",
    "metric": "reward",
    "source": "feedback",
    "minimumDetectableEffect": 100,
    "minSamples": 30,
}
STRATEGIES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "shadow": ({"minSamples": 80}, [SAME, COPIES]),
    "canary": ({"steps": [{"weight": 20, "minSamples": 20}, {"weight": 50, "minSamples": 40}]}, [ERRORS]),
    "blueGreen": ({"keepWarm": "1s", "minSamples": 40, "smoke": [{"maxLatency": "5s"}]}, [BOUNDED]),
    "experiment": (
        {"unit": {"header": "x-user-id"}, "allocation": {"1": 50, "2": 50}, "outcomeDelay": "1s"},
        [ERRORS, BOUGHT],
    ),
    "bandit": ({"floor": 10, "update": "1s", "outcomeDelay": "1s"}, [ERRORS, BOUGHT]),
}


class Users:
    """Requests and what comes of them: version 2 sells to six users of ten, version 1 to one of ten."""

    def __init__(self, url: str, body: bytes) -> None:
        self._url, self._body = url, body
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.answers: Counter[tuple[int, str]] = Counter()
        self.versions_of: dict[str, set[str]] = {}

    def __enter__(self) -> Users:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(planes.WAIT_S)

    async def _run(self) -> None:
        client = Client(self._url, connections=4)
        await asyncio.gather(*(self._one(client, random.Random(n), n) for n in range(4)))
        client.close()

    async def _one(self, client: Client, draw: random.Random, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            # some come back, most are new
            user = f"user-{number}-{count if draw.random() < 0.8 else draw.randrange(5)}"
            name = f"{number}-{count}-{time.time_ns()}"
            answer = await client.post(
                f"/v1/models/{MODEL}:predict", self._body, {"x-request-id": name, "x-user-id": user}
            )
            version = answer.headers.get("x-windlass-version", "")
            self.answers[(answer.status, version)] += 1
            self.versions_of.setdefault(user, set()).add(version)
            bought = int(draw.random() < (0.6 if version == "2" else 0.1))
            await client.post("/feedback", json.dumps({"request_id": name, "label": bought}).encode())
            await asyncio.sleep(0.005)


@dataclass
class Stage:
    """The platform with its engine; `play` runs one release to its end."""

    place: planes.Place
    platform: Platform
    controller: ReleaseController
    releases: Releases
    aliases: list[str]
    said: list[str]
    over: list[str]
    predictions: PredictionTail

    def play(self, kind: str) -> Iterator[None]:
        """Turn until the release of this strategy is over; yields when it has begun and after each turn."""
        strategy, checks = STRATEGIES[kind]
        several = kind in ("experiment", "bandit")
        release = spec.parse(
            {
                "kind": "Release",
                "metadata": {"name": kind.lower()},
                "spec": {
                    "model": MODEL,
                    **({"candidates": ["2"]} if several else {"candidate": "2"}),
                    "champion": "1",
                    "strategy": {"type": kind, **strategy},
                    "checks": checks,
                },
            }
        )
        self.releases.begin(release)
        assert self.controller.live(MODEL) is not None, self.said[-1:]
        # the first step's weights, which the first look may change
        yield
        deadline = time.monotonic() + planes.WAIT_S
        while self.controller.live(MODEL) is not None:
            assert time.monotonic() < deadline, self.said[-3:]
            self.turn()
            yield
            time.sleep(0.05)
        self.turn()

    def turn(self) -> None:
        self.releases.add(self.predictions.poll(), self._accesses.poll(), self._labels.poll())
        self.releases.turn(time.monotonic())

    def __post_init__(self) -> None:
        settings = self.place.settings
        self._labels = LabelTail(feedback_path(settings))
        self._accesses = AccessLog(self.platform.envoy.endpoints.access_log)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = planes.make(tmp_path_factory.mktemp("stage"))
    aliases: list[str] = ["1"]
    said: list[str] = []
    over: list[str] = []
    with Platform(place.settings) as platform:
        platform.start()
        platform.serve(MODEL, "1")
        platform.envoy.set_weights(MODEL, {"1": 100})
        predictions = PredictionTail(prediction_folder(place.settings))
        controller = ReleaseController(
            DiskStore(place.settings.journal_dir / "releases"),
            platform.envoy,
            SystemClock(),
            set_champion=lambda _, version: aliases.append(version),
        )
        releases = Releases(
            place.settings,
            catalog.load(MODEL, place.settings.project),
            platform,
            controller,
            champion=lambda: aliases[-1],
            expected=lambda _: pytest.fail("no check asks for features"),
            say=said.append,
            over=lambda state: over.append(state.release.name),
            positions=lambda: predictions.offsets,
        )
        yield Stage(place, platform, controller, releases, aliases, said, over, predictions)
        controller.close()


@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_better_version_is_promoted(stage: Stage, kind: str) -> None:
    """Verify the way of each strategy on the wire, its end, and that its journal decides the same again."""
    weights: list[dict[str, int]] = []
    with Users(stage.platform.envoy.url, stage.place.body) as users:
        # one request must be known before the smoke requests of blue-green
        planes.wait(lambda: users.answers.total() > 20)
        stage.turn()
        for _ in stage.play(kind):
            wire = stage.platform.envoy.weights(MODEL)
            assert sum(wire.values()) == 100
            if not weights or weights[-1] != wire:
                weights.append(wire)
    newest = stage.controller.newest(MODEL)
    assert newest is not None
    assert newest.phase == "Promoted", stage.said[-3:]
    assert stage.platform.envoy.weights(MODEL) == {"2": 100}
    assert stage.aliases[-1] == "2"
    assert stage.over[-1] == kind.lower()
    assert [answer for answer in users.answers if answer[0] != 200] == []
    if kind == "shadow":
        assert weights[0] == {"1": 100}
    if kind == "canary":
        assert weights[:2] == [{"1": 80, "2": 20}, {"1": 50, "2": 50}]
    if kind == "blueGreen":
        assert weights[-1] == {"2": 100} and set(map(str, weights)) <= {"{'1': 100}", "{'2': 100}"}
    if kind == "bandit":
        assert any(split.get("2", 0) > 60 for split in weights)
    (_, _, path) = history.files(stage.place.settings.journal_dir / "releases", MODEL)[-1]
    assert replay.replay(journal.read(path)).same
    stage.controller.command(MODEL, "rollback")
    assert (stage.platform.envoy.weights(MODEL), stage.aliases[-1]) == ({"1": 100}, "1")
