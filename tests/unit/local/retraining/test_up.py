"""`windlass up` has a trigger: it says where, it comes back when it is killed, and it ends with the rest."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.parse
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import planes
import pytest
from retrain_service import Served, alert, notification

from windlass.contract import RetrainPolicy
from windlass.local.plane import token
from windlass.local.records import Records

pytestmark = pytest.mark.slow


def test_the_platform_takes_alerts_while_it_is_up(tmp_path: Path) -> None:
    with planes.running(tmp_path) as place:
        described = json.loads((place.settings.run_dir / "platform.json").read_text())
        port = urllib.parse.urlsplit(described["trigger_url"]).port
        assert port is not None
        served = Served(tmp_path / "unused", RetrainPolicy(), port=port)
        bearer = {"authorization": f"Bearer {token(place.settings).read_text().strip()}"}
        # the champion is version 1: what is said of version 2 is journaled and starts nothing
        told = json.dumps(
            notification(alert(datetime.now(UTC).isoformat(), model=planes.MODEL, version="2"))
        ).encode()

        def taken() -> bool:
            with contextlib.suppress(OSError, HTTPException):
                status, answer = served.ask("POST", "/alertmanager", told, bearer)
                if status == 503:
                    return False  # what it has to know cannot be known now: it is to be sent again
                decided: dict[str, Any] = json.loads(answer)["signals"][0]
                assert (status, decided["rule"]) == (200, "stale"), decided
                return True
            return False

        planes.wait(taken)
        assert served.ask("POST", "/alertmanager", told)[0] == 401
        before = place.pid("retrain")
        os.kill(before, signal.SIGKILL)
        records = Records(place.settings.run_dir / "processes")

        def again() -> bool:
            child = records.find("retrain")
            return child is not None and child.pid != before and taken()

        planes.wait(again)
        assert (
            json.loads((place.settings.run_dir / "platform.json").read_text())["trigger_url"]
            == (described["trigger_url"])
        )
        last = place.pid("retrain")
        assert place.windlass("down")[0] == 0
        assert planes.gone(last)
