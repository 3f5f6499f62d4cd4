"""Where drills play: a project, a home and one trained model of their own, run by the commands that people run.

Everything is real: processes, Envoy, stores, the registry. Nothing is the user's: the folder is a scratch one, and a
folder that holds a platform in service is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass import telemetry
from windlass.drill import orders, pages, project, traffic
from windlass.drill.ground import MARK, refuse
from windlass.drill.orders import Order
from windlass.drill.pages import Scrape, Target
from windlass.drill.traffic import Asked
from windlass.errors import WindlassError
from windlass.local import processes, state
from windlass.local.plane import COLLECTOR, DataPlane, address
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

MODEL = "orders"
DATA = "orders.parquet"
CHAMPION, CANDIDATE = "1", "2"
COMMAND_S = 240.0
WAIT_S = 60.0
#: What names somebody's home, keys, stores, and the server of their registry.
FOREIGN = ("WINDLASS_", "MLFLOW_")
#: Written last: a folder whose preparation was interrupted is prepared anew.
READY = "ready"


class Stage:
    """One scratch folder.

    Args:
        folder: `project/`, `home/`, and `prepared/`, the home as it is when a drill begins.

    Raises:
        UsageError: the folder holds a platform in service, or is not a drill's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.settings = Settings(home=self.folder / "home", project=self.folder / "project")
        refuse(self.folder)

    # --- preparation

    def prepare(self) -> None:
        """Make a project whose model has served calm days, or bring back the home as it was after them."""
        prepared = self.folder / "prepared"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARK).touch()
        # the drill before may have added to the data
        self._make_project()
        if not (prepared / READY).is_file():
            shutil.rmtree(self.settings.home, ignore_errors=True)
            last = (orders.LIVE - timedelta(days=1)).date()
            # a champion, and a candidate that waits for its release
            self._train(last - timedelta(days=orders.LEARNED_DAYS - 1), last, "champion")
            self._train(last - timedelta(days=orders.LEARNED_DAYS - 6), last, "candidate")
            self._live()
            shutil.rmtree(prepared, ignore_errors=True)
            shutil.copytree(self.settings.home, prepared)
            (prepared / READY).touch()
            return
        shutil.rmtree(self.settings.home, ignore_errors=True)
        shutil.copytree(prepared, self.settings.home, ignore=shutil.ignore_patterns(READY))

    def _make_project(self) -> None:
        from windlass import catalog
        from windlass.scaffold import render
        from windlass.scaffold.request import Request

        place = self.settings.project / "workloads" / MODEL
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(project.__file__).with_name("workload.py"), place / "workload.py")
        data = self.settings.project / DATA
        orders.everything().to_parquet(data, index=False)
        request = Request(
            name=MODEL, data=data, label="returned", time="at", entities=("shop",), label_delay=timedelta(hours=6),
            positive=None, ignore=(),
        )  # fmt: skip
        features = self.settings.project / "feature_repo"
        features.mkdir(exist_ok=True)
        text = render.feature_repository(request, catalog.load(MODEL, self.settings.project))
        (features / f"{MODEL}.py").write_text(text)

    def _live(self) -> None:
        """Serve the calm days and have them analysed."""
        self.up()
        self.tell(self._served(orders.asked(orders.live())))
        self.down()
        self.analyse(orders.LIVE + timedelta(days=orders.LIVE_DAYS))

    def _served(self, asked: Sequence[Order]) -> list[Asked]:
        """Send requests one after the other, with the features kept up as a producer of them does."""
        from windlass import catalog

        workload = catalog.load(MODEL, self.settings.project)
        return traffic.with_features(self.settings, workload, asked, lambda order: self.ask([order]))

    def _train(self, first: date, last: date, run: str) -> None:
        made = self.windlass(
            *(
                "train",
                MODEL,
                "--from",
                first.isoformat(),
                "--to",
                last.isoformat(),
                "--trials",
                "2",
                "--run-id",
                run,
            )
        )
        if not made["passed"]:
            failed = [gate["check"] for gate in made["gates"] if not gate["passed"]]
            raise WindlassError(f"the {run} of the drill failed its gates: {', '.join(failed)}")

    @property
    def release(self) -> Path:
        """The document of the candidate's release."""
        return self.settings.runs_dir / "candidate" / "release.yaml"

    def write_release(self, name: str, strategy: Mapping[str, Any], *, bound: str | None) -> Path:
        """The candidate's release under another name, with another strategy and bound of the latency, or none."""
        import yaml

        document = yaml.safe_load(self.release.read_text())
        document["metadata"]["name"] = name
        document["spec"]["strategy"] = dict(strategy)
        if bound is None:
            checks = document["spec"]["checks"]
            document["spec"]["checks"] = [c for c in checks if c["metric"] != "latencyP99"]
        for check in document["spec"]["checks"]:
            if check["metric"] == "latencyP99":
                check["bound"] = bound
        path = self.settings.home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    @property
    def labels(self) -> Path:
        """The file of the labels that were sent last."""
        return self.settings.project / "labels.jsonl"

    def bundle(self, version: str) -> Path:
        """The folder of a version's bundle."""
        return self.settings.bundles_dir / MODEL / version

    # --- commands

    @property
    def environment(self) -> dict[str, str]:
        """What a command's process sees: this stage, and none of the user's settings."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        if "WINDLASS_DVC" in os.environ:
            kept["WINDLASS_DVC"] = os.environ["WINDLASS_DVC"]
        home, place = str(self.settings.home), str(self.settings.project)
        return {**kept, **telemetry.SWITCHES, "WINDLASS_HOME": home, "WINDLASS_PROJECT": place}

    @contextlib.contextmanager
    def own_environment(self) -> Iterator[None]:
        """Have this process see the same: it asks the registry as well, which may be anywhere."""
        before, own = dict(os.environ), self.environment
        os.environ.clear()
        os.environ.update(own)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def attempt(self, *words: object, alone: bool = False) -> tuple[int, dict[str, Any]]:
        """Run `windlass WORDS --json` as a process; exit code and object.

        Args:
            alone: a Ctrl-C of the terminal does not reach it.
        """
        command = [sys.executable, "-m", "windlass", *map(str, words), "--json"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            env=self.environment,
            cwd=self.settings.project,
            check=False,
            start_new_session=alone,
        )
        try:
            said: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            said = {"error": {"message": done.stderr.strip()[-1500:]}}
        return done.returncode, said

    def windlass(self, *words: object, alone: bool = False) -> dict[str, Any]:
        """As `attempt`, for a command that must succeed.

        Raises:
            WindlassError: it did not.
        """
        code, said = self.attempt(*words, alone=alone)
        if code:
            reason = said.get("error", {}).get("message", said)
            raise WindlassError(f"`windlass {' '.join(map(str, words))}` ended with {code}: {reason}")
        return said

    def up(self) -> dict[str, Any]:
        """Serve; an interrupt in the middle waits until it does, because before that `down` finds nothing to end."""
        with ThreadPoolExecutor(1) as beside:
            said = beside.submit(self.windlass, "up", MODEL, "--detach", alone=True).result()

        def answer() -> bool:
            found = self.scrape()
            return all(v == 1.0 for series, v in found.samples.items() if series.name == "up")

        # the platform serves before its retrain trigger does, which would be an alert before the fault
        self.wait(answer, "every process has a page of metrics")
        return said

    def down(self) -> None:
        """End whatever runs here."""
        with contextlib.suppress(WindlassError, subprocess.TimeoutExpired):
            self.windlass("down")

    # --- callers

    def ask(self, asked: Sequence[Order], connections: int = 4) -> list[Asked]:
        """Send one request for each order through Envoy, as callers do."""
        return traffic.ask(str(state.read(self.settings)["predict_url"]), asked, connections)

    @contextlib.contextmanager
    def callers(self, *, seed: int, pause_s: float = 0.01) -> Iterator[list[Asked]]:
        """Callers who ask all the time until the block ends; their requests so far."""
        sent: list[Asked] = []
        stop = threading.Event()

        def ask() -> None:
            number = seed
            while not stop.is_set():
                number += 1
                for order in orders.now(orders.PER_DAY, number):
                    if stop.is_set():
                        break
                    sent.extend(self.ask([order]))
                    stop.wait(pause_s)

        threads = [threading.Thread(target=ask, daemon=True)]
        for thread in threads:
            thread.start()
        try:
            yield sent
        finally:
            stop.set()
            for thread in threads:
                thread.join(WAIT_S)

    def phase(self, release: str) -> str | None:
        """Where a release is; None where it has not begun, or another one has since."""
        from serving.release.journal import history

        newest = history.newest(self.settings.journal_dir / "releases", MODEL)
        return newest.state.phase if newest is not None and newest.release.name == release else None

    def weights(self) -> dict[str, int]:
        """Version -> share of the traffic in percent, as Envoy has it."""
        from serving.release.envoy.backend import EnvoyBackend

        return dict(EnvoyBackend.attach(self.settings.run_dir / "envoy").weights(MODEL) or {})

    def tell(self, asked: Sequence[Asked], *, late: bool = False) -> dict[str, Any]:
        """Send the outcome of each answered request: known hours after it, or all at once after the last (`late`)."""
        self.labels.write_text(traffic.labels(asked, late=late))
        return self.windlass("feedback", "--file", self.labels)

    def live(self, frame: pd.DataFrame, *, told: bool = True) -> list[Asked]:
        """Serve orders, which are among the data to train on; what became of them is sent if `told`."""
        orders.extend(self.settings.project / DATA, frame)
        self.windlass("features", "build", MODEL)
        sent = self._served(orders.asked(frame))
        if told:
            self.tell(sent)
        return sent

    def store(self) -> None:
        """Have the collector end in order, which brings into the store what it holds; the platform starts it again.

        It would do that by itself twice a minute, for which a drill does not wait.
        """
        plane = DataPlane(self.settings)
        child = plane.records.find(COLLECTOR)
        if child is None:
            raise WindlassError("no collector runs on this stage; `windlass up` starts it")
        child.stop()

        def again() -> bool:
            new = plane.records.find(COLLECTOR)
            return (
                new is not None
                and new.pid != child.pid
                and processes.answers(f"http://{address(new)}/health")
            )

        self.wait(again, "the platform starts the collector again")

    def judge(self, end: datetime) -> dict[str, Any]:
        """Analyse the window that ends at `end`, everything served until now included."""
        self.store()
        return self.analyse(end)

    def analyse(self, end: datetime) -> dict[str, Any]:
        """Run the analysis job for the window that ends at `end`, as its schedule would."""
        text = end.isoformat()
        command = [sys.executable, "-m", "monitoring.analysis", MODEL, "--now", text, "--end", text, "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_S, env=self.environment, check=False
        )
        if done.returncode:
            raise WindlassError(f"the analysis ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    # --- pages

    def targets(self) -> list[Target]:
        """The pages of all processes that run here, and of those that should."""
        plane = DataPlane(self.settings)
        found = []
        for key in plane.records.names():
            record = plane.records.read(key)
            if record is not None and record.port is not None and key != "envoy":
                job = "windlass-serving" if key.startswith("server-") else f"windlass-{key}"
                found.append(Target(job, f"http://127.0.0.1:{record.port}/metrics"))
        with contextlib.suppress(OSError, ValueError):
            described = state.described(self.settings) or {}
            if url := described.get("release_metrics_url"):
                found.append(Target("windlass-engine", url))
        return found

    def scrape(
        self, targets: Sequence[Target] | None = None, *, timeout_s: float = pages.TIMEOUT_S
    ) -> Scrape:
        """The pages as they are now."""
        return pages.scrape(self.targets() if targets is None else targets, timeout_s)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = WAIT_S) -> None:
        """Ask until it holds.

        Raises:
            WindlassError: it never came to hold.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise WindlassError(f"the drill waited {seconds:.0f} s for this and it never came: {what}")
            time.sleep(0.05)
