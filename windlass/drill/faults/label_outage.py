"""Nobody says what became of the predictions: performance is not known, and nothing is decided as if it were."""

from __future__ import annotations

from datetime import timedelta

from windlass.drill import drill, orders, runbook, trigger
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CHAMPION, MODEL, Stage

ALERT = "WindlassLabelsMissing"
DAYS = 8
FIRST = orders.LIVE + timedelta(days=orders.LIVE_DAYS)


def play(stage: Stage, record: Record) -> None:
    stage.up()
    sent = stage.ask(orders.now(60, 1))
    calm = drill.calm(stage, sent, orders.now(60, 1))

    record.note("injected", f"{DAYS} days of predictions, and no label comes for any")
    unlabelled = stage.live(orders.rows(FIRST, DAYS, seed=31), told=False)
    sent += unlabelled
    found = stage.judge(FIRST + timedelta(days=DAYS))
    checks = {c["name"]: c for v in found["versions"] for c in v["checks"]}
    decay = checks["performanceDecay"]
    record.expect(
        "state",
        f"measured performance is {decay['verdict']}: no label is no good news ({decay['reason'][:120]})",
        decay["verdict"] == "INCONCLUSIVE",
    )
    sent += stage.ask(orders.now(60, 2))
    first = stage.scrape()
    sent += stage.ask(orders.now(60, 3))
    drill.rings(record, ALERT, calm, Phase(first, stage.scrape()), {"model": MODEL})
    record.expect("state", "nothing was retrained", not trigger.accepted(stage) and not trigger.runs(stage))
    record.expect("state", f"version {CHAMPION} answers", stage.weights() == {CHAMPION: 100})
    runbook.follow(stage, record, ALERT, files={"labels.jsonl": stage.labels})

    told = stage.tell(unlabelled, late=True)
    record.note("restored", f"the labels come after all, {told['accepted']} of them")
    found = stage.judge(FIRST + timedelta(days=DAYS, hours=12))
    (share,) = [v["label_coverage"] for v in found["versions"] if v["version"] == CHAMPION]
    record.expect(
        "state",
        f"the share of matured rows with a label is {share}",
        share is not None and share > 0.9,
    )
    drill.labelled(stage, record, unlabelled)
    record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
    drill.kept(stage, record, sent)


DRILL = Drill(
    name="label-outage",
    fault="for days no label comes",
    alert=ALERT,
    end_state="measured performance is INCONCLUSIVE, nothing is retrained or promoted on it, and the champion answers; "
    "labels that come late are joined to their predictions",
    proof="every late label is with its prediction; no request failed, and each is in the collector's store once",
    play=play,
)
