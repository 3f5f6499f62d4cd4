"""New training data in another unit: it never enters, nothing is trained meanwhile, and the repaired rows retrain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from windlass import data_version
from windlass.drill import drill, orders, runbook, trigger
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CHAMPION, MODEL, Stage

ALERT = "WindlassTrainingDataRefused"
CENTS = 100


def play(stage: Stage, record: Record) -> None:
    stage.up()
    first_day = (orders.LIVE - timedelta(days=orders.LEARNED_DAYS)).date()
    last_day = (orders.LIVE - timedelta(days=1)).date()
    head = stage.windlass("data", "add", MODEL, "--from", first_day, "--to", last_day, "--no-signal")
    record.note("prepared", f"data version {head['version'][:12]} of {head['rows']} rows is what was learned")
    sent = stage.ask(orders.now(60, 1))
    calm = drill.calm(stage, sent, orders.now(60, 2))

    good, bad = stage.settings.home / "good.parquet", stage.settings.home / "bad.parquet"
    partition = orders.live()
    partition.to_parquet(good, index=False)
    partition.assign(price=partition["price"] * CENTS).to_parquet(bad, index=False)
    code, said = stage.attempt("data", "add", MODEL, bad)
    record.note("injected", f"a partition of {len(partition)} rows whose prices are in cents")
    reason = str(said.get("error", {}).get("message", said))
    record.expect(
        "state",
        f"it is refused, with the column, a value and the rows: {reason[:160]}",
        code == 2 and "'price'" in reason and "must lie in" in reason,
        reason=reason,
    )
    sent += stage.ask(orders.now(60, 3))
    second = stage.scrape()
    sent += stage.ask(orders.now(60, 4))
    drill.rings(record, ALERT, calm, Phase(second, stage.scrape()), {"model": MODEL})
    labels = {"model": MODEL, "version": CHAMPION, "signal": "predictionDrift"}
    _, answer = trigger.tell(stage, [trigger.alert("WindlassPredictionDrift", labels, datetime.now(UTC))])
    record.expect(
        "state",
        "a drift that is told meanwhile is held back: nothing is trained on what is there",
        not trigger.accepted(stage) and not trigger.runs(stage) and "held" in str(answer),
        answer=answer,
    )
    runbook.follow(
        stage, record, ALERT, files={"july.parquet": bad}, codes={"windlass data add $MODEL july.parquet": 2}
    )
    listed = stage.windlass("data", "list", MODEL)
    record.expect(
        "state",
        f"the data is as it was, version {head['version'][:12]}",
        [v["version"] for v in listed["versions"]] == [head["version"]],
    )

    added = stage.windlass("data", "add", MODEL, good, "--no-signal")
    record.note("restored", f"the rows in euros are added: data version {added['version'][:12]}")
    stage.wait(
        lambda: stage.scrape().value("windlass_retrain_data_refused", model=MODEL) == 0,
        "the trigger no longer says that data is refused",
    )
    record.expect("state", "the alert's reason is gone", True)
    _exactly(stage, record, Path(stage.windlass("data", "checkout", MODEL)["file"]), added["version"])
    stage.wait(
        lambda: any(t.finished for t in trigger.accepted(stage)), "what was held back is decided again", 180
    )
    (finished, *_) = trigger.events(stage, "finished")
    chain = stage.windlass("lineage", MODEL, str(finished["version"]))
    record.expect(
        "state",
        f"the retraining that was held back has run, on data version {added['version'][:12]}",
        added["version"] in str(chain),
        chain=chain,
    )
    record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
    drill.kept(stage, record, sent)


def _exactly(stage: Stage, record: Record, file: Path, version: str) -> None:
    """Expect that the newest version holds every good row once and no other."""
    found = pd.read_parquet(file)
    expected = orders.everything()
    same = set(found["order_id"]) == set(expected["order_id"]) and len(found) == len(expected)
    record.expect(
        "lost",
        f"version {version[:12]} holds each of {len(expected)} rows once, none of them in cents",
        same
        and data_version.of_file(file) == version
        and float(found["price"].max()) == expected["price"].max(),
    )


DRILL = Drill(
    name="poisoned-partition",
    fault="a new partition of the training data has its prices in cents",
    alert=ALERT,
    end_state="the partition is refused with every reason and enters no version; no retraining starts meanwhile; once "
    "the repaired rows are added, what was held back runs on the version that holds them",
    proof="the newest data version holds each good row once and no poisoned one; no request failed",
    play=play,
)
