"""`windlass bench sizing`: memory and processor of each part of the platform, under a stated load.

The operator has a benchmark of its own (`windlass bench operator`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.sizing.loads import DAY, Caller, Flights, paced
from benchmarks.sizing.process import Measured, Use
from serving.release.envoy.process import free_port
from windlass import atomic
from windlass.cli import app
from windlass.errors import WindlassError

PY = sys.executable
TOKEN = "of-this-benchmark"  # noqa: S105 - nobody else's


def build_parser() -> argparse.ArgumentParser:
    """What `windlass bench sizing` takes."""
    parser = app.Parser(
        prog="windlass bench sizing",
        description="Trains flights on January 2013, then starts model server, collector, retrain trigger and MLflow "
        "one after the other, loads each, and runs an analysis on what the collector stored.",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the JSON there")
    parser.add_argument("--seconds", type=float, default=20, metavar="N", help="of each load (default 20)")
    parser.add_argument(
        "--rate", type=float, default=200, metavar="N", help="requests a second (default 200)"
    )
    parser.add_argument(
        "--rows", type=int, default=100_000, metavar="N", help="answers stored (default 100000)"
    )
    parser.set_defaults(handler=handle)
    return parser


class Bench:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, told: argparse.Namespace) -> None:
        self._folder, self._told = folder, told
        self._home = folder / "home"
        self._env = {"WINDLASS_HOME": str(self._home), "OMP_NUM_THREADS": "1"}
        self.rows: list[dict[str, Any]] = []

    def note(self, part: str, load: str, use: Use) -> None:
        self.rows.append(
            {
                "part": part,
                "load": load,
                "idle_mib": None if use.idle_mib is None else round(use.idle_mib),
                "peak_mib": round(use.peak_mib),
                "cpu_s": round(use.cpu_s, 1),
                "cores": None if use.idle_mib is None else round(use.cores, 3),
            }
        )
        print(line(self.rows[-1]), file=sys.stderr)

    def job(self, part: str, load: str, *words: str) -> None:
        self.note(part, load, self._start(part, *words).end())

    def training(self) -> None:
        self.job("training", "flights, January 2013, 6 trials",
                 *("-m", "windlass", "train", "flights", "--from", "2013-01-01", "--to", "2013-01-31"))  # fmt: skip

    def features(self) -> None:
        words = ("-m", "windlass", "features", "materialize", "flights", "--until", "2013-02-01")
        self.job("materialize", "7 views of flights into sqlite", *words)

    def server(self) -> None:
        bundle, port = self._home / "models" / "flights" / "1", free_port()
        online = f"sqlite:{self._home / 'features' / 'online.db'}"
        words = ("-m", "serving.runtime", "--bundle", str(bundle), "--port", str(port), "--online", online)
        server = self._start("model server", *words)
        caller, flights, failed = Caller(port), Flights(bundle), 0
        bodies = [json.dumps({"instances": [flights.request(n)]}).encode() for n in range(500)]
        with contextlib.closing(server):
            server.ready(lambda: caller.ask("GET", "/v2/health/ready") == 200)
            for n in paced(self._told.seconds, self._told.rate):
                failed += caller.ask("POST", "/v1/models/flights:predict", bodies[n % 500]) != 200
            use = server.use()
        if failed:
            raise WindlassError(f"the model server failed {failed} requests")
        self.note("model server", f"{self._told.rate:g} requests/s, one row each, one worker", use)

    def collector(self) -> None:
        port, now = free_port(), time.time()
        words = ("-m", "monitoring.collector", "--port", str(port), "--no-follow", "--consolidate-s", "5")
        collector, caller = self._start("collector", *words), Caller(port)
        flights = Flights(self._home / "models" / "flights" / "1")
        with contextlib.closing(collector):
            collector.ready(lambda: caller.ask("GET", "/health") == 200)
            for body in flights.answers(self._told.rows, now - 35 * DAY, now - 60):
                self._taken(caller, "/predictions", body)
            for body in flights.labels(self._told.rows, now - 30):
                self._taken(caller, "/feedback", body)
            time.sleep(15)  # the last consolidation is part of it
            use = collector.use()
        self.note(
            "collector", f"{self._told.rows:,} answers and as many labels, as fast as it takes them", use
        )

    def analysis(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.job("analysis", f"flights, {self._told.rows:,} answers of five weeks, all labelled",
                 *("-m", "monitoring.analysis", "flights", "--end", now, "--now", now))  # fmt: skip

    def trigger(self) -> None:
        port, token = free_port(), self._folder / "token"
        token.write_text(TOKEN)
        words = (
            *("-m", "windlass.local.retraining", "flights"),
            *("--port", str(port), "--token-file", str(token)),
        )
        trigger, caller = self._start("retrain trigger", *words), Caller(port, TOKEN)
        # the end of what never began: it is journaled, and starts nothing
        ended = {
            "workload": "flights",
            "kind": "dataQuality",
            "champion": "1",
            "ended": "2026-01-31T12:00:00Z",
        }
        kind = {"content-type": "application/cloudevents+json"}
        answered = []
        with contextlib.closing(trigger):
            trigger.ready(lambda: caller.ask("GET", "/ready") == 200)
            for n in paced(self._told.seconds, 10):
                event = {"specversion": "1.0", "type": "dev.windlass.retrain.signal", "source": "/bench"}
                body = json.dumps({**event, "id": f"{n}", "data": ended}).encode()
                answered.append(caller.ask("POST", "/events", body, **kind))
            use = trigger.use()
        if set(answered) != {200}:
            raise WindlassError(f"the trigger answered {sorted(set(answered))} to events")
        self.note("retrain trigger", "no run; 10 events/s", use)

    def mlflow(self) -> None:
        port, database = free_port(), self._home / "registry" / "mlflow.db"
        words = ("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                 "--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination",
                 str(self._home / "artifacts"), "--serve-artifacts")  # fmt: skip
        server, caller = self._start("mlflow", *words), Caller(port)
        path = "/api/2.0/mlflow/registered-models/alias?name=flights&alias=champion"
        with contextlib.closing(server):
            server.ready(lambda: caller.ask("GET", path) == 200)
            answered = [caller.ask("GET", path) == 200 for _ in paced(self._told.seconds, 20)]
            use = server.use()
        if not all(answered):
            raise WindlassError(f"MLflow failed {answered.count(False)} requests")
        self.note("MLflow", "20 questions for an alias/s, one worker, sqlite", use)

    def _taken(self, caller: Caller, path: str, body: bytes) -> None:
        while (status := caller.ask("POST", path, body)) != 200:
            if status not in (0, 503):
                raise WindlassError(f"the collector answered {status} to {path}")
            time.sleep(0.2)

    def _start(self, part: str, *words: str) -> Measured:
        env = {**self._env, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return Measured([PY, *words], self._folder / f"{part.replace(' ', '-')}.log", env)


def handle(told: argparse.Namespace) -> int:
    """Run and print."""
    with tempfile.TemporaryDirectory(prefix="windlass-sizing-") as name:
        bench = Bench(Path(name), told)
        for part in (
            bench.training,
            bench.features,
            bench.server,
            bench.collector,
            bench.analysis,
            bench.trigger,
            bench.mlflow,
        ):
            part()
    found = {
        "benchmark": "sizing",
        "machine": {**report.machine(), "load": os.getloadavg()[0]},
        "parts": bench.rows,
    }
    if told.out is not None:
        atomic.make_directory(told.out)
        atomic.write_text(told.out / "sizing.json", json.dumps(found, indent=1))
    if told.json:
        print(json.dumps(found))
    else:
        head = {"part": "part", "load": "load", "idle_mib": "idle MiB", "peak_mib": "peak MiB", "cpu_s": "cpu s",
                "cores": "cores"}  # fmt: skip
        print("\n".join(line(row) for row in (head, *bench.rows)))
    return 0


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    idle, cores = (("-" if row[key] is None else row[key]) for key in ("idle_mib", "cores"))
    return f"{row['part']:16}{idle:>9}{row['peak_mib']:>9}{row['cpu_s']:>8}{cores:>8}  {row['load']}"


def main(argv: list[str] | None = None) -> int:
    return app.run(sys.argv[1:] if argv is None else argv, parser=build_parser())


if __name__ == "__main__":
    sys.exit(main())
