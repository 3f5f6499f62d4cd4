"""The online store is gone: predictions go on with cached and default values, and say so."""

from __future__ import annotations

from windlass.drill import drill, orders, runbook
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CHAMPION, MODEL, Stage

REQUESTS = 120
ALERT = "WindlassFeatureStoreDown"


def play(stage: Stage, record: Record) -> None:
    stage.up()
    sent = stage.ask(orders.now(REQUESTS, 1))
    calm = drill.calm(stage, sent, orders.now(REQUESTS, 2))

    store, away = stage.settings.online_db, stage.settings.home / "away"
    away.mkdir()
    moved = [path for path in store.parent.glob(f"{store.name}*") if path.is_file()]
    for path in moved:
        path.rename(away / path.name)
    record.note("injected", f"the online store {store.name} is gone")
    first = stage.scrape()
    answers = stage.ask(orders.now(REQUESTS, 3))
    second = stage.scrape()
    sent += answers
    sources = sorted({str(a.body.get("feature_source")) for a in answers})
    record.expect(
        "state",
        f"every request is answered, none from the store (features: {', '.join(sources)})",
        all(a.status == 200 for a in answers) and "online" not in sources,
    )
    record.expect(
        "state",
        "the breaker of the store is open: it is not asked at every request",
        second.value("windlass_breaker_state", model=MODEL, of="store", state="open") == 1,
    )
    drill.rings(record, ALERT, calm, Phase(first, second), {"model": MODEL, "version": CHAMPION})
    runbook.follow(stage, record, ALERT, codes={"windlass doctor": 1})

    for path in moved:
        (away / path.name).rename(path)
    record.note("restored", "the store is back")

    def online() -> bool:
        sent.extend(stage.ask(orders.now(10, 4 + len(sent))))
        return sent[-1].body.get("feature_source") == "online"

    stage.wait(online, "features come from the store again")
    record.expect("state", "features come from the store again, without a restart", True)
    record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
    drill.kept(stage, record, sent)


DRILL = Drill(
    name="dead-feature-store",
    fault="the online store's files are taken away while the model serves",
    alert=ALERT,
    end_state="every request is answered, from cached and default values, and says so; when the store is back, so are "
    "its features, without a restart",
    proof="no request failed, and each is in the collector's store once",
    play=play,
)
