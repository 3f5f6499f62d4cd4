"""A retrain trigger that is served by a process of its own, with real runs of a pipeline that takes no time."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitoring.retrain import journal
from monitoring.retrain.following import Ended, Outcome
from monitoring.retrain.journal import Trigger
from monitoring.retrain.service.app import Token
from monitoring.retrain.service.core import Service, Watched
from monitoring.retrain.service.server import serve
from monitoring.retrain.signals import Signal
from pipelines.submit_local import LocalRuns
from windlass.contract import RetrainPolicy
from windlass.errors import PortInUseError
from windlass.settings import Settings

MODEL = "flights"
TOKEN = "a-token-of-a-test"  # noqa: S105
WAIT_S = 60.0

PIPELINE = """
import json, os, sys
folder, lock = sys.argv[1:3]
os.set_inheritable(int(lock), False)
with open(os.path.join(folder, "executed"), "a") as seen:
    seen.write("once\\n")
result = {"version": "4", "passed": True, "champion": "3", "gates": [{"check": "auc", "passed": True}]}
with open(os.path.join(folder, ".outcome"), "w") as out:
    json.dump({"result": result, "error": None, "seconds": 1.0}, out)
os.rename(os.path.join(folder, ".outcome"), os.path.join(folder, "outcome.json"))
"""
"""A pipeline's process as `pipelines.submitted` is one: it holds the lock, leaves an outcome, and says that it ran."""


@dataclass
class Around:
    """The surroundings of a trigger: real runs on this machine; champion, releases and data as a test says."""

    runs: LocalRuns
    champion_: str | None = "3"
    live: bool = False
    refused: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)

    def submit(self, trigger: str, signal: Signal) -> str:
        return self.runs.submit(trigger, MODEL, signal.detail)

    def run(self, trigger: str) -> Ended | None:
        found = self.runs.find(trigger)
        return None if found is None else Ended(found.result, found.error, found.seconds)

    def champion(self) -> str | None:
        return self.champion_

    def live_release(self) -> bool:
        return self.live

    def data_refused(self) -> bool:
        return self.refused

    def release(self, result: Mapping[str, Any]) -> str | None:
        self.released.append(str(result["version"]))
        return None

    def outcome(self, version: str) -> Outcome | None:
        return self.outcomes.get(version)


def around(home: Path) -> Around:
    worker = (sys.executable, "-S", "-E", "-c", PIPELINE)
    return Around(LocalRuns(Settings(home=home, project=home), worker=worker))


def service(home: Path, policy: RetrainPolicy, say: Callable[[str], None] = lambda _: None) -> Service:
    platform = around(home)
    trigger = Trigger(MODEL, policy, journal.path(Settings(home=home, project=home)), platform.submit)
    return Service({MODEL: Watched(trigger, platform)}, say, follow_every_s=0.0)


def free_port() -> int:
    """A port below those that the kernel gives to clients.

    One of a client's could be taken between two lives, by a client that connects to itself even.
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randint(20_000, 32_000)))
            return int(probe.getsockname()[1])


@dataclass
class Served:
    """A service in a process of its own, on one port for all its lives."""

    home: Path
    policy: RetrainPolicy
    port: int = field(default_factory=free_port)
    lives: int = 0

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "token").write_text(TOKEN + "\n")
        self._process: Any = None

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, prepare: Callable[[], None] = lambda: None) -> None:
        """Start a life; `prepare` runs in its process first."""

        def life() -> None:
            try:
                prepare()
                made = service(self.home, self.policy)
                while True:
                    # a run's process that is between fork and exec still has the last life's socket
                    with contextlib.suppress(PortInUseError):
                        asyncio.run(
                            serve(made, Token(self.home / "token"), "127.0.0.1", self.port, turn_s=0.02)
                        )
                        break
            except BaseException:
                (self.home / "died").write_text(traceback.format_exc())
            finally:
                # nothing of the test that forked us may run here
                os._exit(0)

        self._process = multiprocessing.get_context("fork").Process(target=life)
        self._process.start()
        self.lives += 1

    def until_ready(self) -> None:
        """Wait until it has recovered what an earlier life left."""
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError):  # it does not listen yet
                if self.ask("GET", "/ready")[0] == 200:
                    return
            assert self.alive() and time.monotonic() < deadline
            time.sleep(0.01)

    def alive(self) -> bool:
        return self._process is not None and self._process.exitcode is None

    @property
    def code(self) -> int | None:
        return None if self._process is None else self._process.exitcode

    def stop(self) -> None:
        if self.alive():
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.join(WAIT_S)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request on a connection of its own.

        Raises:
            OSError, HTTPException: nobody answers.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def deliver(self, notification: Mapping[str, Any], revive: Callable[[], None]) -> dict[str, Any]:
        """Send as Alertmanager does: until it is answered by 200; `revive` is called where nobody answers."""
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            try:
                status, answer = self.ask("POST", "/alertmanager", json.dumps(notification).encode(), headers)
                if status == 200:
                    told: dict[str, Any] = json.loads(answer)
                    return told
            except (OSError, http.client.HTTPException):
                if not self.alive():
                    revive()
            time.sleep(0.002)
        raise AssertionError("it was never taken")


def notification(*alerts: Mapping[str, Any]) -> dict[str, Any]:
    """Alertmanager's webhook, version 4."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="WindlassFeatureDrift"}',
        "status": "firing",
        "receiver": "retrain",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts),
    }


def alert(since: str, *, ended: str | None = None, **labels: str) -> dict[str, Any]:
    """One alert of a notification, of feature drift of version 3 where `labels` do not say otherwise."""
    return {
        "status": "firing" if ended is None else "resolved",
        "labels": {
            "alertname": "WindlassFeatureDrift",
            "signal": "featureDrift",
            "model": MODEL,
            "version": "3",
            **labels,
        },
        "annotations": {"summary": "3 of 12 features drifted"},
        "startsAt": since,
        "endsAt": ended or "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "c2f1d6b8a0e4",
    }
