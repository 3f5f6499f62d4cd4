"""One drift, told fifty times, out of order, by two senders, to a trigger that is killed in between: one run."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from monitoring.retrain import journal
from windlass.drill import drill, orders, runbook, trigger
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.faults import drifted_feature
from windlass.drill.record import Record
from windlass.drill.stage import CHAMPION, MODEL, Stage
from windlass.journal import read
from windlass.local import plane
from windlass.local.plane import DataPlane

ALERT = "WindlassFeatureDrift"
SIGNALS = (ALERT, "WindlassPredictionDrift")
TIMES = 50
KILLED_AT = (7, 19, 31)


def play(stage: Stage, record: Record) -> None:
    stage.up()
    sent = stage.ask(orders.now(60, 1))
    calm = drill.calm(stage, sent, orders.now(60, 1))
    sent += drifted_feature.inject(stage, record)
    end = drifted_feature.FIRST + timedelta(days=drifted_feature.DAYS)
    drifted_feature.tell(record, stage.judge(end))
    sent += stage.ask(orders.now(60, 2))
    first = stage.scrape()
    sent += stage.ask(orders.now(60, 3))
    firing = drill.rings(
        record, ALERT, calm, Phase(first, stage.scrape()), {"model": MODEL, "version": CHAMPION}
    )

    told = [(name, labels) for name in SIGNALS for labels in firing.during.get(name, ())]
    if not told:
        return
    answers = _tell(stage, record, told)
    record.expect(
        "state",
        f"each of {TIMES} notifications is acknowledged in the end",
        [status for status, _ in answers] == [200] * TIMES,
    )
    stage.wait(lambda: any(t.finished for t in trigger.accepted(stage)), "the run ends", 180)
    drifted_feature.once(stage, record)
    journaled = Counter(r["event"] for r in read(journal.path(stage.settings)) if r["workload"] == MODEL)
    record.note("observed", f"the journal holds {dict(journaled)}")
    runbook.follow(stage, record, ALERT, version=CHAMPION)
    record.note("restored", "nothing has to be: the candidate's release decides who answers the new callers")
    record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
    drill.kept(stage, record, sent)


def _tell(
    stage: Stage, record: Record, told: Sequence[tuple[str, Mapping[str, str]]]
) -> list[tuple[int, dict[str, Any]]]:
    """Send every notification as Alertmanager does: again and again until it is taken."""
    draw = random.Random(5)  # noqa: S311 - a story, not a secret
    began = datetime.now(UTC)
    notifications = []
    for _ in range(TIMES):
        group = [
            # when it began is not told alike by all: the rule of one was loaded later
            trigger.alert(name, labels, began - timedelta(seconds=draw.randrange(3600)))
            for name, labels in draw.sample(list(told), draw.randint(1, len(told)))
        ]
        notifications.append(group)

    def send(number: int) -> tuple[int, dict[str, Any]]:
        if number in KILLED_AT:
            child = DataPlane(stage.settings).records.find(plane.RETRAIN)
            if child is not None:
                os.kill(child.pid, signal.SIGKILL)
        answers: list[tuple[int, dict[str, Any]]] = []

        def taken() -> bool:
            answers.append(trigger.tell(stage, notifications[number]))
            return answers[-1][0] == 200

        stage.wait(taken, f"notification {number} is taken", 60)
        return answers[-1]

    record.note(
        "injected", f"{TIMES} notifications by two senders at once, the trigger killed at {KILLED_AT}"
    )
    with ThreadPoolExecutor(2) as senders:
        return list(senders.map(send, range(TIMES)))


DRILL = Drill(
    name="double-trigger",
    fault=f"{TIMES} notifications of one drift, doubled and out of order, from two senders at once; the trigger is "
    f"killed {len(KILLED_AT)} times meanwhile",
    alert=ALERT,
    end_state="one trigger is accepted and one run made; the version it makes is a candidate like any other",
    proof="every notification is acknowledged in the end; no request failed, and each is in the collector's store once",
    play=play,
)
