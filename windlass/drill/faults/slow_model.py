"""A model that answers rightly and far too late: a release takes it back, and where none watched the alert rings."""

from __future__ import annotations

from collections.abc import Mapping

from windlass.drill import artifacts, drill, orders, runbook
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CANDIDATE, CHAMPION, MODEL, Stage
from windlass.drill.traffic import Asked

ALERT = "WindlassLatencyBudgetBurnFast"
TIMES = 6
ENDED = ("RolledBack", "Promoted", "Aborted")


def play(stage: Stage, record: Record) -> None:
    stage.up()
    sent = stage.ask(orders.now(120, 1))
    calm = drill.calm(stage, sent, orders.now(120, 2))

    artifacts.slow(stage.settings, stage.bundle(CANDIDATE), TIMES)
    record.note("injected", f"the model of candidate {CANDIDATE} multiplies large matrices at every request")
    watched = {"type": "canary", "steps": [{"weight": 50, "minSamples": 2000}]}
    asked = _released(stage, "watched", watched, "50ms", {CHAMPION: 100})
    slow = [a.seconds for a in asked if a.version == CANDIDATE]
    sent += asked
    record.expect(
        "state",
        f"a release that watches the latency is rolled back, after {len(slow)} slow requests",
        stage.phase("watched") == "RolledBack" and len(slow) < 200,
        slowest_ms=round(max(slow, default=0.0) * 1000),
    )

    hasty = {"type": "canary", "steps": [{"weight": 50, "minSamples": 20}]}
    sent += _released(stage, "unwatched", hasty, None, {CANDIDATE: 100})
    record.note("injected", "the same candidate by a release that watches errors alone: it is promoted")
    first = stage.scrape()
    # one after the other: more at a time would be turned away, and that is another drill
    slow_answers = stage.ask(orders.now(24, 3), connections=1)
    during = Phase(first, stage.scrape())
    sent += slow_answers
    fastest = min(a.seconds for a in slow_answers) * 1000
    record.note("observed", f"every request takes {fastest:.0f} ms or more")
    drill.rings(record, ALERT, calm, during, {"model": MODEL})
    runbook.follow(stage, record, ALERT, act=["windlass release rollback $MODEL"])
    record.note("restored", "the rollback of the runbook: all traffic to the version before")
    stage.wait(lambda: stage.weights() == {CHAMPION: 100}, "the version before has all the traffic")
    later = stage.ask(orders.now(60, 4))
    sent += later
    record.expect(
        "state",
        f"version {CHAMPION} answers everything again",
        {(a.version, a.status) for a in later} == {(CHAMPION, 200)},
    )
    record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
    drill.kept(stage, record, sent)


def _released(
    stage: Stage, name: str, strategy: Mapping[str, object], bound: str | None, ends_with: dict[str, int]
) -> list[Asked]:
    """Callers' requests while a release of the candidate is carried out."""
    with stage.callers(seed=1000) as asked:
        stage.windlass("release", "apply", "-f", stage.write_release(name, strategy, bound=bound))
        stage.wait(lambda: stage.phase(name) in ENDED, f"release {name} ends", 90)
        stage.wait(lambda: stage.weights() == ends_with, f"release {name} ends with {ends_with}")
        return asked


DRILL = Drill(
    name="slow-model",
    fault="the candidate of a release needs over 50 ms for every request; then a release that does not watch the "
    "latency promotes it",
    alert=ALERT,
    end_state="the first release is rolled back by its latency guardrail; after the second the alert rings, and "
    "`windlass release rollback` brings the version before back",
    proof="no request failed, and each is in the collector's store once",
    play=play,
)
