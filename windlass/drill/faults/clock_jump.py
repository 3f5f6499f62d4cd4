"""The retrain trigger's clock jumps over its cool-down and back: it notices, and makes no second run for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from windlass.drill import drill, orders, runbook, trigger
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CHAMPION, MODEL, Stage
from windlass.errors import WindlassError
from windlass.local import plane, processes, state
from windlass.local.plane import DataPlane

ALERT = "WindlassClockJump"
DAYS = 8
"""More than the policy's cool-down of a week."""


def play(stage: Stage, record: Record) -> None:
    _require_namespaces()
    stage.up()
    sent = stage.ask(orders.now(60, 1))
    stage.wait(lambda: bool(_page(stage)), "the trigger answers")
    calm = drill.calm(stage, sent, orders.now(60, 2))

    engine = int(state.read(stage.settings)["pids"]["windlass"])
    # it would start the trigger again, with the right clock
    os.kill(engine, signal.SIGSTOP)
    try:
        with _jumped(stage):
            record.note(
                "injected",
                f"the trigger's wall clock is set back: {DAYS} days pass by the other one",
            )
            stage.wait(lambda: _page(stage).get("jumps", 0) >= 1, "the trigger counts the jump")
            sent += stage.ask(orders.now(60, 3))
            after = stage.scrape([t for t in stage.targets() if t.job != "windlass-engine"])
            record.expect("state", "the jump is journaled", bool(_jumps(stage)), jumps=_jumps(stage))
            answer = _tell(stage, "WindlassFeatureDrift", "featureDrift")
            record.expect(
                "state",
                "a drift that is told is accepted, and makes one run",
                len(trigger.accepted(stage)) == 1,
                answer=answer,
            )
            stage.wait(lambda: len(trigger.runs(stage)) == 1, "the run is submitted")
    finally:
        os.kill(engine, signal.SIGCONT)
    record.note("restored", f"the trigger is started anew with the right clock: {DAYS} days back")
    stage.wait(lambda: len(_jumps(stage)) >= 2, "the trigger journals the jump back")
    before = Phase(calm.first, calm.second)
    drill.rings(record, ALERT, before, Phase(calm.second, after))
    stage.wait(lambda: any(t.finished for t in trigger.accepted(stage)), "the run ends", 180)
    answer = _tell(stage, "WindlassPredictionDrift", "predictionDrift")
    record.expect(
        "state",
        "another drift is held back: the cool-down goes by time that passed, not by a clock that was set",
        len(trigger.accepted(stage)) == 1 and len(trigger.runs(stage)) == 1,
        answer=answer,
    )
    runbook.follow(stage, record, ALERT)
    finished = trigger.events(stage, "finished")
    record.expect(
        "lost",
        "the run that began before the clock was right again was followed to its end",
        len(finished) == 1,
    )
    record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
    drill.kept(stage, record, sent)


def _tell(stage: Stage, name: str, kind: str) -> dict[str, Any]:
    labels = {"model": MODEL, "version": CHAMPION, "signal": kind}
    answers: list[tuple[int, dict[str, Any]]] = []

    def taken() -> bool:
        answers.append(trigger.tell(stage, [trigger.alert(name, labels, datetime.now(UTC))]))
        return answers[-1][0] == 200

    stage.wait(taken, f"the trigger takes {name}")
    return answers[-1][1]


def _page(stage: Stage) -> dict[str, float]:
    """What the trigger's page says of jumps; empty where it does not answer."""
    page = stage.scrape([t for t in stage.targets() if t.job == "windlass-retrain"])
    jumps = page.value("windlass_retrain_clock_jumps_total")
    return {} if jumps is None else {"answers": 1, "jumps": jumps}


def _jumps(stage: Stage) -> list[float]:
    return [r["ahead"] for r in trigger.events(stage, "clock") if r["ahead"]]


@contextlib.contextmanager
def _jumped(stage: Stage) -> Iterator[None]:
    """Run the trigger, on its port, in a time namespace in which the machine has been up for `DAYS` more days."""
    records = DataPlane(stage.settings).records
    child, record = records.find(plane.RETRAIN), records.read(plane.RETRAIN)
    if child is None or record is None:
        raise WindlassError("no retrain trigger runs on this stage")
    child.process.kill()
    child.process.wait()
    command = ["unshare", "--map-root-user", "--time", f"--boottime={DAYS * 86400}", *record.command]
    log = stage.settings.logs_dir / "retrain-jumped.log"
    started = processes.start("the trigger", command, log, {**stage.environment, **record.environment})
    try:
        yield
    finally:
        started.stop()


def _require_namespaces() -> None:
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            ["unshare", "--map-root-user", "--time", "--boottime=1", "true"], capture_output=True, check=False
        ).returncode
    ):
        raise WindlassError(
            "this system lets nobody make a time namespace (Linux 5.6, unshare of util-linux, unprivileged user "
            "namespaces); play this drill on one that does"
        )


DRILL = Drill(
    name="clock-jump",
    fault=f"for the retrain trigger the wall clock is set back by {DAYS} days, more than its cool-down, and then set "
    "right again",
    alert=ALERT,
    end_state="both jumps are journaled and counted; the drift told in between makes one run, which is followed to its "
    "end; no second run starts before the cool-down has really passed",
    proof="the run is followed across both jumps; no request failed, and each is in the collector's store once",
    play=play,
)
