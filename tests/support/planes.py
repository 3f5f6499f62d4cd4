"""A project with one small model, its bundles and a registry that answers: what `windlass up` needs, and no more.

The registry's answers come from its snapshot, so that nothing imports MLflow; its database is a file that no MLflow
could open. Whoever changes that file has a registry that is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import serving_bundles

from components import signing
from components.registry import VersionInfo
from serving.release.envoy.files import EnvoyFiles
from windlass.local import processes
from windlass.local.client import Client
from windlass.local.records import MARK
from windlass.settings import Settings

MODEL = "tumours"
WAIT_S = 120.0

WORKLOAD = f'''
from windlass.contract import Estimator, Gates, Label, RequestField, Source, Workload
WORKLOAD = Workload(
    name="{MODEL}", source=Source(load=lambda path: None, columns=(), key=(), event_time="at"),
    prepare=lambda frame: frame, entities=(), label=Label("label", "at"), views=(),
    request_fields=tuple(RequestField(f"f{{i}}") for i in range(30)), feature_service="tumours_v1",
    estimators=(Estimator("linear", {{}}),), gates=Gates(minimum_auc=0.5),
)
'''


@dataclass(frozen=True)
class Place:
    """A home and a project of its own."""

    settings: Settings
    body: bytes

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "WINDLASS_HOME": str(self.settings.home),
            "WINDLASS_PROJECT": str(self.settings.project),
        }

    def windlass(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run a command in a process of its own; its exit code and its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "windlass", *words, "--json"],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            env=self.environment,
            check=False,
        )
        said: dict[str, Any] = json.loads(done.stdout or "{}") or {"stderr": done.stderr}
        return done.returncode, said

    def up(self, *words: str) -> dict[str, Any]:
        code, said = self.windlass("up", MODEL, "--detach", *words)
        assert code == 0, said
        return said

    def pid(self, key: str) -> int:
        """Process of a record, which must run."""
        record = json.loads((self.settings.run_dir / "processes" / f"{key}.json").read_text())
        return int(record["pid"])

    def listener(self) -> int:
        return EnvoyFiles(self.settings.run_dir / "envoy").endpoints().listener

    def running(self) -> dict[int, str]:
        """Running processes of this home's data plane: process id -> command line."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mark = process.environ().get(MARK, "")
                if mark.startswith(str(self.settings.run_dir)) and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())
        return found

    def champion(self, version: str, versions: tuple[str, ...] = ("1", "2")) -> None:
        """Let the registry say that `version` is the champion."""
        folder = self.settings.registry_dir
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / "mlflow.db"
        database.write_bytes(b"no database")
        status = database.stat()
        known = [
            asdict(
                VersionInfo(
                    MODEL,
                    v,
                    "champion" if v == version else "retired",
                    trained_from="2013-01-01T00:00:00+00:00",
                    trained_to="2013-02-01T00:00:00+00:00",
                    offline_auc=0.9,
                    run_id=v,
                    aliases=("champion",) if v == version else (),
                )
            )
            for v in versions
        ]
        stamp = [status.st_mtime_ns, status.st_size, status.st_ino]
        (folder / "snapshot.json").write_text(json.dumps({"stamp": stamp, "models": {MODEL: known}}))


def make(folder: Path, versions: tuple[str, ...] = ("1", "2")) -> Place:
    """A home with signed bundles of `versions` that answer alike, the first one champion."""
    settings = Settings(home=folder / "home", project=folder / "project")
    place = settings.project / "workloads" / MODEL
    place.mkdir(parents=True)
    (place / "workload.py").write_text(WORKLOAD)
    made = serving_bundles.plain(folder / "made", MODEL, versions[0])
    keys = signing.keys(settings)
    for version in versions:
        target = settings.bundles_dir / MODEL / version
        shutil.copytree(made.folder, target)
        document = json.loads((target / "serving.json").read_text())
        (target / "serving.json").write_text(json.dumps({**document, "version": version}))
        signing.sign(target, keys)
    row = {f"f{i}": float(value) for i, value in enumerate(made.rows[0])}
    found = Place(settings, json.dumps({"instances": [row]}).encode())
    found.champion(versions[0], versions)
    return found


def end(place: Place) -> None:
    """Whatever a failed test left behind must not outlive it."""
    place.windlass("down")
    for pid in place.running():
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()


@dataclass
class Trickle:
    """Requests one after the other on a thread of its own; what was answered, in order."""

    place: Place
    every_s: float = 0.01
    answers: list[tuple[float, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Trickle:
        self._thread.start()
        self.more()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)

    async def _run(self) -> None:
        client = Client(f"http://127.0.0.1:{self.place.listener()}", connections=1)
        while not self._stop.is_set():
            sent = time.perf_counter()
            answer = await client.post(f"/v1/models/{MODEL}:predict", self.place.body)
            self.answers.append((sent, answer.status, answer.headers.get("x-windlass-version", "")))
            await asyncio.sleep(self.every_s)
        client.close()

    def more(self, count: int = 20) -> list[str]:
        """Wait for `count` more requests; the versions that answered them."""
        # the one under way may be older than the question
        begun = len(self.answers) + 1
        wait(lambda: len(self.answers) >= begun + count)
        return [version for _, _, version in self.answers[begun:]]

    @property
    def failed(self) -> Counter[int]:
        return Counter(status for _, status, _ in self.answers if status != 200)


def wait(condition: Callable[[], bool], seconds: float = WAIT_S) -> None:
    """Ask until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    return processes.started(pid) is None


@contextlib.contextmanager
def running(folder: Path, versions: tuple[str, ...] = ("1", "2")) -> Iterator[Place]:
    """A platform that serves the first version."""
    place = make(folder, versions)
    try:
        place.up()
        yield place
    finally:
        end(place)
