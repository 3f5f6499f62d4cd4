"""The real Alertmanager sends to the real trigger: what it writes is what we read, and it sends until it is heard."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_server import TOOLS
from retrain_service import MODEL, TOKEN, WAIT_S, Served, free_port

from monitoring.retrain import journal
from monitoring.rules.programs import binary
from windlass.contract import RetrainPolicy
from windlass.journal import read
from windlass.settings import Settings

pytestmark = pytest.mark.slow

CONFIGURATION = """
route: {{receiver: retrain, group_by: [alertname, model, version], group_wait: 50ms, group_interval: 200ms,
  repeat_interval: 300ms}}
receivers:
  - name: retrain
    webhook_configs:
      - url: http://127.0.0.1:{port}/alertmanager
        send_resolved: true
        http_config: {{authorization: {{type: Bearer, credentials_file: {token}}}}}
"""


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Callable[[int], Callable[..., None]]]:
    """Start an Alertmanager that sends to a port; gives what fires an alert into it."""
    with contextlib.ExitStack() as running:

        def start(to: int) -> Callable[..., None]:
            (tmp_path / "am-token").write_text(TOKEN)
            (tmp_path / "am.yml").write_text(CONFIGURATION.format(port=to, token=tmp_path / "am-token"))
            port = free_port()
            command = [binary("alertmanager", TOOLS), f"--config.file={tmp_path / 'am.yml'}"]
            command += [f"--storage.path={tmp_path / 'am'}", f"--web.listen-address=127.0.0.1:{port}"]
            command += ["--cluster.listen-address=", "--log.level=debug"]
            log = running.enter_context((tmp_path / "am.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
            running.callback(process.wait, 60)
            running.callback(process.terminate)
            url = f"http://127.0.0.1:{port}"

            def ready() -> bool:
                assert process.poll() is None, (tmp_path / "am.log").read_text()
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5):  # noqa: S310
                    return True
                return False

            wait(ready)

            def fire(since: datetime, ends: datetime) -> None:
                alert = {
                    "labels": {
                        "alertname": "WindlassFeatureDrift",
                        "signal": "featureDrift",
                        "model": MODEL,
                        "version": "3",
                    },
                    "annotations": {"summary": "3 of 12 features drifted"},
                    "startsAt": since.isoformat(),
                    "endsAt": ends.isoformat(),
                }
                request = urllib.request.Request(  # noqa: S310
                    f"{url}/api/v2/alerts", json.dumps([alert]).encode(), {"content-type": "application/json"}
                )
                with urllib.request.urlopen(request, timeout=10):  # noqa: S310
                    pass

            return fire

        yield start


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_alert_that_nobody_heard_is_sent_again_makes_one_run_and_ends(
    tmp_path: Path, alertmanager: Callable[[int], Callable[..., None]]
) -> None:
    """Verify that it fires into a trigger that is down, is heard once that is up, repeats in vain, and resolves."""
    home = tmp_path / "home"
    path = journal.path(Settings(home=home, project=home))

    def events() -> list[dict[str, Any]]:
        return [r for r in read(path) if r["event"] != "clock"]

    with Served(home, RetrainPolicy()) as served:
        fire = alertmanager(served.port)
        since = datetime.now(UTC)
        fire(since, since + timedelta(hours=1))
        wait(lambda: b"connection refused" in (tmp_path / "am.log").read_bytes())
        served.start()
        wait(lambda: any(t.finished for t in journal.history(path, MODEL)))
        # it repeats what burns
        wait(lambda: sum(1 for r in events() if r["event"] == "refused") >= 2)
        fire(since, datetime.now(UTC))
        wait(lambda: any(r["event"] == "cleared" for r in events()))
    accepted = [r for r in events() if r["event"] == "accepted"]
    assert [r["cause"] for r in accepted] == ["featureDrift/3"]
    assert {r["rule"] for r in events() if r["event"] == "refused"} == {"duplicate"}
    began = datetime.fromisoformat(accepted[0]["signal_at"])
    assert abs(began - since) < timedelta(milliseconds=2)
    assert accepted[0]["detail"]["fingerprint"] and accepted[0]["detail"]["alert"] == "WindlassFeatureDrift"
    (executed,) = (home / "runs" / ".submitted").glob("*/executed")
    assert executed.read_text().split() == ["once"]
