"""A real Prometheus of a test's own; `monitoring.rules.programs` finds or fetches it.

What was scraped is asked of Prometheus, so that no test sleeps for a scrape.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.rules.programs import binary
from serving.release.envoy.process import free_port

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
WAIT_S = 60.0
INTERVAL_S = 0.25
#: Prometheus moves a scrape's time by up to so much, to where the interval wants it.
ALIGNMENT_S = 0.005


@dataclass
class PrometheusServer:
    """A server that is running."""

    url: str
    process: subprocess.Popen[bytes]

    def get(self, path: str, **query: str) -> Any:
        """What its API answers, without the envelope."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:  # noqa: S310 - a loopback address
            return json.load(answer)["data"]

    def scraped(self, instance: str, after: float, *, up: bool = True) -> None:
        """Wait until a scrape that began after `after` (seconds since the epoch) is stored, and found the target up.

        `up` is stored together with all else of its scrape.
        """
        deadline = time.monotonic() + WAIT_S
        while True:
            found = self.get("/api/v1/query", query=f'up{{instance="{instance}"}}[10s]')["result"]
            at, value = found[0]["values"][-1] if found else (0.0, "none")
            if at > after + ALIGNMENT_S and float(value) == up:
                return
            assert time.monotonic() < deadline, f"{instance} was not scraped as up={up}: {at} {value}"
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(WAIT_S)


@contextlib.contextmanager
def running(
    folder: Path, targets: Sequence[str], *, path: str = "/metrics", labels: Mapping[str, str] | None = None
) -> Iterator[PrometheusServer]:
    """Yield a server that scrapes `path` of `targets` (host:port) four times a second, and is ended at the end.

    Its series get the `labels`, as those of a pod get its namespace.
    """
    (folder / "prometheus.yml").write_text(
        json.dumps(  # JSON is YAML
            {
                "global": {"scrape_interval": f"{INTERVAL_S * 1000:.0f}ms", "scrape_timeout": "200ms"},
                "scrape_configs": [
                    {
                        "job_name": "models",
                        "metrics_path": path,
                        "static_configs": [{"targets": list(targets), "labels": dict(labels or {})}],
                    }
                ],
            }
        )
    )
    port = free_port()
    command = [
        binary("prometheus", TOOLS),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    server = PrometheusServer(f"http://127.0.0.1:{port}", process)
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/-/ready", timeout=5):  # noqa: S310
                break
            ended = process.poll()
            assert ended is None and time.monotonic() < deadline, (folder / "prometheus.log").read_text()
            time.sleep(0.05)
        yield server
    finally:
        server.stop()
