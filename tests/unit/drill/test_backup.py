"""A home destroyed in the middle of a release comes back from a backup that was taken under traffic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from components.registry import Registry
from tests.support.patience import wait
from windlass.drill.stage import CANDIDATE, CHAMPION, MODEL, Stage


@pytest.mark.slow
def test_a_lost_home_goes_on_where_it_was_backed_up(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    release = f"{MODEL}-{CANDIDATE}"
    stage.windlass("release", "apply", "-f", stage.release)
    # so few of them that the release goes on for as long as a backup may take
    with stage.callers(seed=500, pause_s=0.1) as asked:
        wait(lambda: stage.phase(release) == "Progressing" and len(asked) > 20, "the release is under way")
        taken = stage.windlass("backup", file)
    assert {a.status for a in asked} == {200}, "callers do not notice a backup"
    assert taken["champions"] == {MODEL: CHAMPION}
    assert stage.attempt("restore", file)[0] == 2, "a home in use is left alone"
    lineage = stage.windlass("lineage", MODEL, CHAMPION)["chain"]
    stage.down()

    shutil.rmtree(stage.settings.home)
    restored = stage.windlass("restore", file)
    assert (restored["champions"], restored["aside"]) == ({MODEL: CHAMPION}, None)
    assert stage.windlass("lineage", MODEL, CHAMPION)["chain"] == lineage
    stage.up()
    assert stage.phase(release) == "Progressing", "the journal has the release, and it is live"
    with stage.callers(seed=900) as asked:
        wait(lambda: stage.phase(release) in ("Promoted", "RolledBack"), "the release decides")
        wait(lambda: stage.weights() == {CANDIDATE: 100}, "the candidate has the traffic")
    assert {a.status for a in asked} == {200}
    assert stage.phase(release) == "Promoted", json.dumps(stage.windlass("release", "explain", MODEL))
    wait(lambda: Registry(stage.settings).champion(MODEL) == CANDIDATE, "the registry follows")
