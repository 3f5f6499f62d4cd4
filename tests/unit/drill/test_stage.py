"""What a drill refuses to touch, and when a record may say that a drill passed."""

from __future__ import annotations

import os
import resource
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from windlass.drill import drill, pages, runbook
from windlass.drill.faults import disk_full
from windlass.drill.ground import MARK
from windlass.drill.pages import Target
from windlass.drill.record import Record
from windlass.drill.stage import Stage
from windlass.errors import UsageError, WindlassError
from windlass.local import state
from windlass.local.lock import PlatformLock
from windlass.local.plane import DataPlane, Plan
from windlass.settings import Settings


def test_a_folder_with_a_platform_in_service_is_refused(tmp_path: Path) -> None:
    """Verify that neither a home itself nor a folder that holds one is played with, engine or plane alone."""
    (tmp_path / MARK).touch()
    home = Settings(home=tmp_path / "home", project=tmp_path)
    held = PlatformLock(state.lock_path(home))
    for folder in (tmp_path, tmp_path / "home"):
        with pytest.raises(UsageError, match="a platform is in service"):
            Stage(folder)
    held.release()
    Stage(tmp_path)
    DataPlane(home).begin(Plan("python", "/", "bundles", "logs", "sqlite:x", "key"))
    with pytest.raises(UsageError, match="a platform is in service"):
        Stage(tmp_path)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    """Verify that nobody's files are removed for a scratch home."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds other things"):
        Stage(tmp_path)


def test_a_home_and_a_project_that_are_no_drill_s_are_refused(tmp_path: Path) -> None:
    """Verify that a platform that is not in service is not taken for the ground of a drill before."""
    (tmp_path / "project").mkdir()
    kept = tmp_path / "home" / "models" / "champion"
    kept.parent.mkdir(parents=True)
    kept.write_text("years of work")
    with pytest.raises(UsageError, match="holds other things"):
        Stage(tmp_path)
    assert kept.read_text() == "years of work"


def test_a_small_disk_is_taken_away_whatever_happens(tmp_path: Path) -> None:
    """Verify it where the platform cannot even be ended, and that what a killed drill left is no obstacle."""
    stage = Stage(tmp_path)
    stage.settings.home.mkdir()
    (stage.settings.home / "kept").touch()
    (tmp_path / "aside" / "left").mkdir(parents=True)
    # there is no project in which a command could run
    with pytest.raises(FileNotFoundError), disk_full._disk(stage):
        assert [p.name for p in stage.settings.home.iterdir()] == ["kept"]
    assert not stage.settings.home.is_mount()
    assert not (tmp_path / "aside").exists()


def test_without_a_collector_no_process_is_forbidden_to_write(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(WindlassError, match="no collector runs"):
            disk_full._fill(Stage(tmp_path), False, Record("x"))
        assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_stage_is_up_once_every_page_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that a process that is slow to listen is waited for: a scrape without it would be an alert."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"windlass_retrain_escalated 0\n")

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Page, bind_and_activate=False)
    server.server_bind()
    slow = threading.Timer(0.3, lambda: (server.server_activate(), server.serve_forever(0.01)))
    stage = Stage(tmp_path)
    target = Target("windlass-retrain", f"http://127.0.0.1:{server.server_port}/metrics")
    monkeypatch.setattr(stage, "windlass", lambda *_, **__: {"said": "up"})
    monkeypatch.setattr(stage, "targets", lambda: [target])
    slow.start()
    try:
        assert stage.up() == {"said": "up"}
        assert stage.scrape().value("up") == 1
    finally:
        server.shutdown()
        server.server_close()


def test_a_stage_sees_none_of_the_user_s_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify the environment of its commands."""
    monkeypatch.setenv("WINDLASS_OBJECT_STORE", "s3://production/models")
    monkeypatch.setenv("WINDLASS_DVC", "/opt/dvc")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://production")
    stage = Stage(tmp_path)
    with stage.own_environment():
        assert dict(os.environ) == stage.environment
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://production"
    seen = {k: v for k, v in stage.environment.items() if k.startswith(("WINDLASS_", "MLFLOW_TRACKING"))}
    assert seen == {
        "WINDLASS_HOME": str(tmp_path / "home"),
        "WINDLASS_PROJECT": str(tmp_path / "project"),
        "WINDLASS_DVC": "/opt/dvc",
    }


@pytest.mark.parametrize(
    ("slow", "asked"),
    [
        pytest.param([0], 1, id="calm"),
        pytest.param([1, 4, 0], 3, id="a-machine-that-stalls"),
        pytest.param([60] * 9, drill.CALMS, id="a-platform-that-is-slow"),
    ],
)
def test_a_calm_is_looked_for_and_not_made(slow: list[int], asked: int) -> None:
    """Verify that a request which the machine held up is no alert before the fault, and that slowness that stays is."""
    left, sent, counted = iter(slow), [], Counter[str]()

    def ask(orders: range) -> range:
        late = next(left)
        counted.update({"+Inf": len(orders), "0.05": len(orders) - late, "0.1": len(orders)})
        return orders

    def scrape() -> pages.Scrape:
        text = "# TYPE windlass_request_seconds histogram\n" + "".join(
            f'windlass_request_seconds_bucket{{le="{le}",model="orders"}} {counted[le]}\n'
            for le in ("0.05", "0.1", "+Inf")
        )
        text += f'windlass_request_seconds_count{{model="orders"}} {counted["+Inf"]}\n'
        found = pages.parse(text, {})
        return pages.Scrape(0.0, {s: v for s, v, _ in found}, frozenset(s for s, _, _ in found))

    stage = SimpleNamespace(ask=ask, scrape=scrape)
    phase = drill.calm(stage, sent, range(60))  # type: ignore[arg-type]  # all that it asks of one, and of orders
    assert len(sent) == 60 * asked
    last = (
        phase.second.value("windlass_request_seconds_count"),
        phase.first.value("windlass_request_seconds_count"),
    )
    assert last == (60 * asked, 60 * (asked - 1))


@pytest.mark.parametrize(
    ("held", "passed"),
    [
        pytest.param({"alert": True, "state": True, "lost": True}, True, id="all"),
        pytest.param({"alert": True, "state": False, "lost": True}, False, id="one-does-not-hold"),
        pytest.param({"alert": True, "state": True}, False, id="nothing-said-of-what-was-lost"),
        pytest.param({}, False, id="nothing-expected"),
    ],
)
def test_a_record_passes_only_with_every_proof(held: dict[str, bool], passed: bool) -> None:
    """Verify that a drill that forgot to look did not pass."""
    record = Record("x")
    record.note("injected", "something")
    for kind, holds in held.items():
        record.expect(kind, "an expectation", holds)  # type: ignore[arg-type]
    assert record.passed is passed


def test_a_runbook_s_commands_are_read_from_its_page() -> None:
    """Verify the parts, that variables and comments are none, and that an alert without a page is an error."""
    parts = runbook.page("WindlassLatencyBudgetBurnFast")
    looked = list(runbook.commands(parts["Look"].partition(runbook.CLUSTER)[0]))
    assert looked[:2] == ["windlass status", "windlass release status $MODEL"]
    assert "windlass release rollback $MODEL" in list(runbook.commands(parts["Act"]))
    with pytest.raises(WindlassError, match="has no runbook"):
        runbook.page("WindlassEarthquake")
