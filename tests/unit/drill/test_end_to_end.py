"""One drift, from the callers to the next champion, watched by a real Prometheus and a real Alertmanager.

Callers send other prices -> the collector stores what was served -> the analysis judges it -> Prometheus scrapes the
verdict and a rule rings -> Alertmanager calls the trigger's webhook -> the trigger journals it and makes one run ->
the candidate goes through a release under real traffic -> it is the champion -> the alert resolves, and the trigger
is told.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from components.registry import Registry
from monitoring.retrain import journal
from monitoring.rules.watch import Watch, watching
from tests.support.patience import wait
from windlass.drill import orders, trigger
from windlass.drill.faults.drifted_feature import DAYS, DEARER, FIRST
from windlass.drill.stage import CHAMPION, MODEL, Stage
from windlass.journal import read
from windlass.local import plane, state

ALERTS = {"featureDrift": "WindlassFeatureDrift", "predictionDrift": "WindlassPredictionDrift"}


def targets(stage: Stage) -> dict[str, list[str]]:
    jobs: dict[str, list[str]] = {}
    for target in stage.targets():
        jobs.setdefault(target.job, []).append(target.instance)
    return jobs


def about(watch: Watch, version: str) -> bool:
    """Whether an alert of drift of this version fires."""
    query = f'ALERTS{{alertname=~"{"|".join(ALERTS.values())}",alertstate="firing",version="{version}"}}'
    return bool(watch.query(query))


def ended(stage: Stage) -> set[str]:
    """Versions whose drift Alertmanager said is over, and of which nothing was told since."""
    told: dict[tuple[str, str], bool] = {}
    for record in read(journal.path(stage.settings)):
        if record.get("kind") in ALERTS and record["event"] in ("accepted", "refused", "cleared"):
            told[record["champion"], record["kind"]] = record["event"] == "cleared"
    return {version for version, _ in told} - {version for (version, _), over in told.items() if not over}


def chain(stage: Stage, version: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.windlass("lineage", MODEL, version)["chain"]
    return found


@pytest.mark.slow
def test_a_drift_makes_the_next_champion_and_the_alert_resolves(stage: Stage, tmp_path: Path) -> None:
    """Verify every link of the chain, in its order, with nothing between them but what is shipped."""
    stage.live(orders.rows(FIRST, DAYS, seed=21, dearer=DEARER))
    stage.store()
    webhook = f"{state.read(stage.settings)['trigger_url']}/alertmanager"
    token = plane.token(stage.settings)
    with watching(tmp_path, targets(stage), webhook=webhook, token_file=token) as watch:
        wait(
            lambda: bool(watch.query(f'windlass_window_rows{{model="{MODEL}"}}')),
            "Prometheus scrapes the pages",
        )
        assert not about(watch, CHAMPION), "nobody has looked at those days yet"

        stage.analyse(FIRST + timedelta(days=DAYS))
        wait(lambda: about(watch, CHAMPION), "the rule rings")
        wait(lambda: len(trigger.accepted(stage)) > 0, "Alertmanager tells the trigger")
        wait(lambda: trigger.accepted(stage)[0].finished, "the run ends")
        (accepted,) = trigger.accepted(stage)
        # one drift moves the inputs and the scores: which of its two alerts comes first is Prometheus' to say
        assert accepted.kind in ALERTS
        assert trigger.runs(stage) == [accepted.id]
        (evidence,) = [r for r in trigger.events(stage, "accepted") if r["id"] == accepted.id]
        assert evidence["detail"]["alert"] == ALERTS[accepted.kind]
        assert evidence["detail"]["labels"]["version"] == CHAMPION
        (finished,) = trigger.events(stage, "finished")
        candidate = str(finished["version"])
        release = f"{MODEL}-{candidate}"

        with stage.callers(seed=1000) as asked:
            wait(lambda: stage.phase(release) in ("Promoted", "RolledBack"), "the release decides")
            phase = stage.phase(release)
            if phase == "Promoted":
                wait(lambda: stage.weights() == {candidate: 100}, "the candidate has the traffic")
        assert {a.status for a in asked} == {200}
        assert phase == "Promoted", stage.windlass("release", "explain", MODEL)
        wait(lambda: Registry(stage.settings).champion(MODEL) == candidate, "the registry follows")

        # two days later only the new champion answers, and version 1 is nobody's concern any more
        days = orders.rows(FIRST + timedelta(days=DAYS), 2, seed=22, dearer=DEARER)
        stage.tell(stage.ask(orders.asked(days)[-20:], connections=1))
        stage.store()
        stage.analyse(FIRST + timedelta(days=DAYS + 2))
        wait(lambda: not about(watch, CHAMPION), "the alert resolves")
        wait(lambda: CHAMPION in ended(stage), "the trigger is told that the incident is over")
        wait(lambda: bool(trigger.events(stage, "resolved")), "the trigger journals what came of the run")

    (outcome,) = trigger.events(stage, "resolved")
    assert (outcome["helped"], outcome["id"]) == (True, accepted.id)
    assert len(trigger.accepted(stage)) == 1, "one drift, one run"
    kinds = [link["kind"] for link in chain(stage, candidate)]
    assert kinds.index("signal") < kinds.index("run") < kinds.index("version") < kinds.index("release")
