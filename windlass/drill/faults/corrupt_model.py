"""Model files that are not what was trained: one broken on the disk, one broken before it was signed."""

from __future__ import annotations

import shutil

from serving.release.journal import refusals
from windlass.drill import artifacts, drill, orders, runbook
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.pages import Scrape
from windlass.drill.record import Record
from windlass.drill.stage import CANDIDATE, CHAMPION, MODEL, Stage

ALERT = "WindlassModelFailing"
CANARY = {"type": "canary", "steps": [{"weight": 50, "minSamples": 2000}]}


def play(stage: Stage, record: Record) -> None:
    stage.up()
    sent = stage.ask(orders.now(120, 1))
    calm = drill.calm(stage, sent, orders.now(120, 2))

    bundle, aside = stage.bundle(CANDIDATE), stage.settings.home / "aside"
    shutil.copytree(bundle, aside)
    file = artifacts.flip(bundle)
    record.note("injected", f"one bit of {file} of candidate {CANDIDATE} is turned over on the disk")
    stage.windlass("release", "apply", "-f", stage.write_release("flipped", CANARY, bound="250ms"))

    def refused() -> bool:
        return bool(refusals.find(stage.settings, MODEL, "flipped"))

    stage.wait(refused, "the platform refuses the release of the flipped file", 90)
    (refusal,) = refusals.find(stage.settings, MODEL, "flipped")
    record.expect(
        "state",
        "no server loads it: the release is refused before a request meets it, with the reason",
        file in refusal.reason or "signature" in refusal.reason or "digest" in refusal.reason,
        reason=refusal.reason,
    )
    record.expect("state", f"the traffic is as it was: {stage.weights()}", stage.weights() == {CHAMPION: 100})

    shutil.rmtree(bundle)
    aside.rename(bundle)
    artifacts.failing(stage.settings, bundle)
    record.note(
        "injected", f"the model of candidate {CANDIDATE} is exported wrongly: it loads and cannot run"
    )
    file_name = stage.write_release("failing", CANARY, bound="250ms")
    seen: list[Scrape] = []
    with stage.callers(seed=1000) as asked:
        begun = stage.scrape()
        stage.windlass("release", "apply", "-f", file_name)

        def over() -> bool:
            page = stage.scrape()
            if page.value("windlass_model_failures_total", model=MODEL, version=CANDIDATE):
                seen.append(page)
            done = stage.phase("failing") in ("RolledBack", "Promoted", "Aborted")
            return done or bool(refusals.find(stage.settings, MODEL, "failing"))

        stage.wait(over, "the release of the failing model ends", 90)
        stage.wait(lambda: stage.weights() == {CHAMPION: 100}, "the champion has all the traffic")
        at = len(asked)
        stage.wait(lambda: len(asked) >= at + 20, "callers ask on")
        later = asked[at + 1 :]
    sent += asked
    failed = [a for a in asked if a.status != 200]
    record.note("observed", f"{len(failed)} of {len(asked)} requests failed while it had half the traffic")
    record.expect(
        "state",
        f"the release is rolled back (it is {stage.phase('failing')})",
        stage.phase("failing") == "RolledBack",
    )
    record.expect(
        "state",
        "the champion answers everything again",
        {(a.version, a.status) for a in later} == {(CHAMPION, 200)},
    )
    drill.rings(record, ALERT, calm, Phase(begun, seen[-1]), {"model": MODEL, "version": CANDIDATE})
    runbook.follow(stage, record, ALERT)
    record.note("restored", "the candidates' servers are gone; nothing else had to be done")
    record.expect(
        "lost",
        "no request of the champion failed",
        all(a.status == 200 for a in sent if a.version in ("", CHAMPION)),
    )
    drill.kept(stage, record, sent)


DRILL = Drill(
    name="corrupt-model",
    fault="a bit of the candidate's model file is turned over on the disk; then a model that loads and cannot run is "
    "signed like any other",
    alert=ALERT,
    end_state="the first release is refused with the reason before a request meets the file; the second is rolled back "
    "by its error guardrail, and the champion answers everything",
    proof="no request of the champion failed, and each answered one is in the collector's store once",
    play=play,
)
