"""The engine stands still in the middle of a release: its metrics are gone, and the traffic stays as it is."""

from __future__ import annotations

import os
import signal

from windlass.drill import drill, orders, runbook
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CANDIDATE, CHAMPION, Stage
from windlass.local import state

ALERT = "WindlassMetricsAbsent"
RELEASE = "watched"
CANARY = {"type": "canary", "steps": [{"weight": 30, "minSamples": 100}, {"weight": 60, "minSamples": 100}]}
#: A process that stands still lets a scrape wait.
TIMEOUT_S = 1.5


def play(stage: Stage, record: Record) -> None:
    stage.up()
    sent = stage.ask(orders.now(60, 1))
    calm = drill.calm(stage, sent, orders.now(60, 2))
    stage.windlass("release", "apply", "-f", stage.write_release(RELEASE, CANARY, bound="250ms"))
    stage.wait(lambda: CANDIDATE in stage.weights(), "the candidate has its first share")
    record.note("prepared", f"a release is under way, weights {stage.weights()}")

    engine = int(state.read(stage.settings)["pids"]["windlass"])
    os.kill(engine, signal.SIGSTOP)
    try:
        record.note("injected", f"the engine (process {engine}) stands still: nobody answers for its metrics")
        weights = stage.weights()
        first = stage.scrape(timeout_s=TIMEOUT_S)
        during = stage.ask(orders.now(300, 3))
        second = stage.scrape(timeout_s=TIMEOUT_S)
        sent += during
        record.expect(
            "state",
            f"every request is answered, by both versions, with the weights as they were: {weights}",
            all(a.status == 200 for a in during)
            and {a.version for a in during} == {CHAMPION, CANDIDATE}
            and stage.weights() == weights,
        )
        record.expect(
            "state",
            f"the release holds (it is {stage.phase(RELEASE)}), although its samples would be enough",
            stage.phase(RELEASE) == "Progressing",
        )
        drill.rings(record, ALERT, calm, Phase(first, second), {"job": "windlass-engine"})
        status = stage.windlass("status")
        record.expect(
            "state",
            f"`windlass status` says what to do: {status['remedy']}",
            status["engine"] == "stands still" and f"kill -CONT {engine}" in str(status["remedy"]),
        )
        runbook.follow(stage, record, ALERT)
    finally:
        os.kill(engine, signal.SIGCONT)
    record.note("restored", f"`kill -CONT {engine}`, as `windlass status` says")

    with stage.callers(seed=1000) as asked:
        stage.wait(lambda: stage.phase(RELEASE) == "Promoted", "the release goes on and ends", 90)
        stage.wait(lambda: stage.weights() == {CANDIDATE: 100}, "the candidate has all the traffic")
    sent += asked
    record.expect("state", "the release went on with the evidence of meanwhile, and was promoted", True)
    record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
    drill.kept(stage, record, sent)


DRILL = Drill(
    name="metrics-down",
    fault="in the middle of a release the engine stands still, and its metrics page with it",
    alert=ALERT,
    end_state="predictions go on with the weights as they were and the release holds; `windlass status` names the "
    "remedy; when the engine goes on, so does the release, to its end",
    proof="no request failed, and each is in the collector's store once",
    play=play,
)
