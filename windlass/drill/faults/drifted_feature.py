"""Callers send other values than were learned: one run answers, and its candidate has to beat the champion."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from components.registry import Registry
from windlass.drill import drill, orders, runbook, trigger
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CHAMPION, MODEL, Stage
from windlass.drill.traffic import Asked

ALERT = "WindlassFeatureDrift"
DEARER = 2.0
DAYS = 8
FIRST = orders.LIVE + timedelta(days=orders.LIVE_DAYS)


def play(stage: Stage, record: Record) -> None:
    stage.up()
    sent = stage.ask(orders.now(60, 1))
    calm = drill.calm(stage, sent, orders.now(60, 1))
    sent += inject(stage, record)
    found = stage.judge(FIRST + timedelta(days=DAYS))
    tell(record, found)
    sent += stage.ask(orders.now(60, 2))
    first = stage.scrape()
    sent += stage.ask(orders.now(60, 3))
    during = Phase(first, stage.scrape())
    firing = drill.rings(
        record, ALERT, calm, during, {"model": MODEL, "version": CHAMPION, "signal": "featureDrift"}
    )

    labels = next(iter(firing.during.get(ALERT, ())), None)
    if labels is None:
        return
    status, said = trigger.tell(stage, [trigger.alert(ALERT, labels, datetime.now(UTC))])
    record.expect(
        "state", f"the trigger takes the alert ({status}) and accepts it", status == 200, answer=said
    )
    stage.wait(lambda: any(t.finished for t in trigger.accepted(stage)), "the run ends", 180)
    once(stage, record)
    runbook.follow(stage, record, ALERT, version=CHAMPION)
    record.note("restored", "nothing has to be: the candidate's release decides who answers the new callers")
    record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
    drill.kept(stage, record, sent)


def inject(stage: Stage, record: Record) -> list[Asked]:
    """Serve days on which everything costs `DEARER` times as much."""
    record.note("injected", f"{DAYS} days of callers whose prices are {DEARER:g} times as high")
    return stage.live(orders.rows(FIRST, DAYS, seed=21, dearer=DEARER))


def tell(record: Record, found: dict[str, Any]) -> None:
    """Write down what the analysis says."""
    checks = {c["name"]: c["verdict"] for v in found["versions"] for c in v["checks"]}
    failed = ", ".join(f"{name}" for name, verdict in checks.items() if verdict == "FAIL")
    record.note("observed", f"the analysis of the days says FAIL of: {failed or 'nothing'}", checks=checks)


def once(stage: Stage, record: Record) -> None:
    """Expect one run, a new version with its lineage, and the champion as before."""
    (first, *more) = trigger.accepted(stage)
    record.expect(
        "state", "one trigger, one run", not more and trigger.runs(stage) == [first.id], trigger=first.id
    )
    ended = next((r for r in trigger.events(stage, "finished") if r["id"] == first.id), {})
    version = str(ended.get("version"))
    known = {v.version: v for v in Registry(stage.settings).versions(MODEL)}
    state = known[version].state if version in known else "absent"
    record.expect(
        "state",
        f"the run made version {version} ({state}): it has to beat the champion at its gates and in its release",
        version in known and state in ("candidate", "rejected"),
    )
    record.expect(
        "state",
        f"version {CHAMPION} is the champion as before",
        Registry(stage.settings).champion(MODEL) == CHAMPION,
    )
    chain = stage.windlass("lineage", MODEL, version)
    record.expect("state", "its lineage names the signal", "featureDrift" in str(chain), chain=chain)


DRILL = Drill(
    name="drifted-feature",
    fault=f"for days callers send prices {DEARER:g} times as high as those that were learned",
    alert=ALERT,
    end_state="the retrain trigger accepts one signal and makes one run; the version it makes is a candidate that has "
    "to beat the champion, which answers meanwhile; `windlass lineage` shows the chain",
    proof="no request failed, and each is in the collector's store once",
    play=play,
)
