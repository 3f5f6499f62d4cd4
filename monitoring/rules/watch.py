"""A real Prometheus, and a real Alertmanager where there is a trigger to tell, on this machine's loopback.

For drills and tests: they watch with the rules and routes that are shipped, only in a hurry. Whoever runs a Prometheus
of their own needs `windlass.rules.yaml` and scrape jobs whose names begin with "windlass", and nothing of this.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.alertmanager import configuration
from monitoring.rules import document
from monitoring.rules.programs import binary
from monitoring.rules.rule import Group
from windlass.errors import WindlassError

START_S = 60.0


@dataclass(frozen=True)
class Watch:
    """What is running.

    Attributes:
        prometheus: its address.
        alertmanager: its address; None without a webhook.
    """

    prometheus: str
    alertmanager: str | None

    def query(self, promql: str) -> list[dict[str, Any]]:
        """What an instant query gives: a list of {"metric": labels, "value": [time, text]}."""
        found = _get(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': promql})}")
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def alerts(self, state: str = "firing") -> dict[str, dict[str, str]]:
        """Labels of the alerts in `state` ("firing" or "pending"), by name; of several of a name, the last one's."""
        found = _get(f"{self.prometheus}/api/v1/alerts")["data"]["alerts"]
        return {a["labels"]["alertname"]: a["labels"] for a in found if a["state"] == state}

    def held(self) -> dict[str, tuple[str, ...]]:
        """What Alertmanager holds, by name: the receivers it goes to; none where it is inhibited.

        Raises:
            WindlassError: there is no Alertmanager.
        """
        if self.alertmanager is None:
            raise WindlassError("no Alertmanager is running here; give a webhook")
        found = _get(f"{self.alertmanager}/api/v2/alerts")
        return {
            a["labels"]["alertname"]: ()
            if a["status"]["state"] == "suppressed"
            else tuple(sorted(r["name"] for r in a["receivers"]))
            for a in found
        }


@contextlib.contextmanager
def watching(
    folder: Path,
    targets: Mapping[str, Sequence[str]],
    *,
    webhook: str | None = None,
    token_file: Path | None = None,
    groups: Sequence[Group] | None = None,
    interval_ms: int = 500,
    tools: Path | None = None,
) -> Iterator[Watch]:
    """Run both until the block ends.

    Args:
        folder: for their configuration, data and logs.
        targets: `host:port` by job, each with its page at /metrics; names begin with "windlass".
        webhook: the trigger's endpoint for alerts; None runs no Alertmanager.
        token_file: with the bearer token that it expects.
        groups: the rules; those that are shipped, in a hurry, by default.
        interval_ms: of scrapes and evaluations.
        tools: see `monitoring.rules.programs.binary`.

    Raises:
        WindlassError: a program cannot be had, or does not start; its last words are in the message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    step = f"{interval_ms}ms"
    found = document.hurried(document.groups(), interval=step) if groups is None else tuple(groups)
    (folder / "rules.yaml").write_text(document.text(document.rules(found)))
    with contextlib.ExitStack() as stack:
        alertmanager = None
        if webhook is not None:
            if token_file is None:
                raise WindlassError(
                    f"webhook {webhook}: its token_file is missing; the trigger takes no stranger's alerts"
                )
            alertmanager = stack.enter_context(_alertmanager(folder, webhook, token_file, tools))
        content: dict[str, Any] = {
            "global": {"scrape_interval": step, "scrape_timeout": step, "evaluation_interval": step},
            "rule_files": [str(folder / "rules.yaml")],
            "scrape_configs": [
                # labels of the page itself are kept where a target's have the same name
                {"job_name": job, "honor_labels": True, "static_configs": [{"targets": list(places)}]}
                for job, places in targets.items()
            ],
        }
        if alertmanager is not None:
            content["alerting"] = {
                "alertmanagers": [{"static_configs": [{"targets": [alertmanager.removeprefix("http://")]}]}]
            }
        (folder / "prometheus.yml").write_text(json.dumps(content))  # JSON is YAML
        port = _free_port()
        command = [
            str(binary("prometheus", tools)),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus-data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            # an alert that still fires is sent again so soon; a drill does not wait for a minute
            "--rules.alert.resend-delay=1s",
            "--log.level=warn",
        ]
        prometheus = stack.enter_context(_running("prometheus", command, folder, f"http://127.0.0.1:{port}"))
        yield Watch(prometheus, alertmanager)


@contextlib.contextmanager
def _alertmanager(folder: Path, webhook: str, token_file: Path, tools: Path | None) -> Iterator[str]:
    (folder / "alertmanager.yml").write_text(json.dumps(configuration(webhook, token_file)))
    port = _free_port()
    command = [
        str(binary("alertmanager", tools)),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager-data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",  # alone
        "--log.level=warn",
    ]
    with _running("alertmanager", command, folder, f"http://127.0.0.1:{port}") as address:
        yield address


@contextlib.contextmanager
def _running(name: str, command: list[str], folder: Path, address: str) -> Iterator[str]:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        deadline = time.monotonic() + START_S
        while not _ready(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise WindlassError(f"{name} did not start; the last of {log}: {log.read_text()[-1500:]}")
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/-/ready", timeout=5):  # noqa: S310
            return True
    except OSError:  # urllib's errors among them
        return False


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise WindlassError(f"{url}: {error.code} {error.read()[:300].decode(errors='replace')}") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
