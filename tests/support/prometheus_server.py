"""A real Prometheus of a test's own: from PATH, or Debian's package unpacked (not installed) into `.tools`, once.

The package comes through apt, which checks its signature; lists and cache are in a folder of our own, so that neither
root nor an up-to-date system is needed. What was scraped is asked of Prometheus, so that no test sleeps for a scrape.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
WAIT_S = 60.0
INTERVAL_S = 0.25
#: Prometheus moves a scrape's time by up to so much, to where the interval wants it.
ALIGNMENT_S = 0.005


def binary() -> str:
    """The program, fetched where it is not there yet."""
    found = shutil.which("prometheus")
    if found is not None:
        return found
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes must not unpack into one folder together
        for path in sorted(TOOLS.glob("prometheus-*/usr/bin/prometheus")):
            return str(path)
        return str(_fetched())


def _fetched() -> Path:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.fail("no prometheus on PATH and no apt-get to fetch it with: install Prometheus 2.40 or newer")
    partial = TOOLS / "prometheus.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial"):
        (partial / folder).mkdir(parents=True)
    options = [
        "-qq", "-o", f"Dir::State::Lists={partial / 'lists'}", "-o", f"Dir::Cache={partial / 'cache'}",
        # no lock of the system's, and no other user, who could not write here
        "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=",
    ]  # fmt: skip
    for command in (["update"], ["download", "prometheus"]):
        ended = subprocess.run(
            ["apt-get", *options, *command], cwd=partial, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            pytest.fail(
                f"apt-get {' '.join(command)} ended with {ended.returncode}, so there is no Prometheus to test with; "
                f"install it, or make Debian's archive reachable:\n{ended.stderr[-2000:]}"
            )
    (package,) = partial.glob("prometheus_*.deb")
    version = re.sub(r"[^0-9.].*", "", package.name.split("_")[1])
    subprocess.run(["dpkg-deb", "-x", package, partial / "content"], check=True)
    place = TOOLS / f"prometheus-{version}"
    (partial / "content").rename(place)
    shutil.rmtree(partial)
    return place / "usr" / "bin" / "prometheus"


@dataclass
class PrometheusServer:
    """A server that is running."""

    url: str
    process: subprocess.Popen[bytes]

    def get(self, path: str, **query: str) -> Any:
        """What its API answers, without the envelope."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
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
        self.process.wait(20)


@contextlib.contextmanager
def running(folder: Path, targets: Sequence[str], *, path: str = "/metrics") -> Iterator[PrometheusServer]:
    """Yield a server that scrapes `path` of `targets` (host:port) four times a second, and is ended at the end."""
    (folder / "prometheus.yml").write_text(
        json.dumps(  # JSON is YAML
            {
                "global": {"scrape_interval": f"{INTERVAL_S * 1000:.0f}ms", "scrape_timeout": "200ms"},
                "scrape_configs": [
                    {
                        "job_name": "models",
                        "metrics_path": path,
                        "static_configs": [{"targets": list(targets)}],
                    }
                ],
            }
        )
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        binary(),
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
