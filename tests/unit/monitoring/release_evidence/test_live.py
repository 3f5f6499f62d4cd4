"""Releases that are asked for: what is read for them, when, and that nobody can tell whether it was read before."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from event_store import EventStore, home, label, prediction, request, response

from monitoring.collector import parts
from monitoring.collector.place import place
from monitoring.collector.store import begin
from monitoring.release_evidence import live, question, stored
from monitoring.release_evidence.live import ConflictError, Releases, WaitError
from windlass.errors import WindlassError

BEGAN = 1_700_049_600
REWARD = {
    "name": "worth", "kind": "decision", "metric": "reward", "source": "feedback", "valueType": "binary",
    "minimumDetectableEffect": 5,
}  # fmt: skip
GUARD = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2}
SAME = {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 5}
LOSS = {"name": "loss", "kind": "decision", "metric": "brier", "source": "feedback"}
EXPERIMENT = {
    "type": "experiment", "unit": {"header": "x-user"}, "allocation": {"1": 50, "2": 50}, "outcomeDelay": "20s",
    "maxDuration": "100s", "period": "50s",
}  # fmt: skip
SHADOW = {"type": "shadow"}
CANARY = {"type": "canary", "steps": [{"weight": 50}]}


def asked(strategy: dict[str, Any] = EXPERIMENT, name: str = "r", **more: Any) -> question.Question:
    checks = [SAME, LOSS] if strategy is SHADOW else [GUARD, REWARD]
    described = {"model": "m", "candidate": "2", "champion": "1", "strategy": strategy, "checks": checks}
    body = {
        "release": {"kind": "Release", "metadata": {"name": name}, "spec": described},
        "champion": "1",
        "since": datetime.fromtimestamp(BEGAN, UTC).isoformat(),
        **more,
    }
    return question.read(body, now=BEGAN + 1_000_000)


def opened(store: EventStore, **more: Any) -> Releases:
    # time stands still unless a test lets it go: no machine is too slow for a question
    return Releases(place(store.settings), **{"now": lambda: BEGAN + 10_000, "clock": lambda: 0.0, **more})


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    return EventStore(home(tmp_path), compact_parts=2, hold_s=5.0)


def ask(store: EventStore, number: int, second: float, **fields: Any) -> None:
    unit = f"{number:016x}"
    fields = {"version": "12"[number % 2], "route": "arm", "unit": unit, **fields}
    store.add(prediction(f"q{number}", at=BEGAN + second, received=BEGAN + second, **fields))


def tell(store: EventStore, number: int, second: float, value: int = 1) -> None:
    store.add(label(f"q{number}", value, at=BEGAN + second, received=BEGAN + second))


def outcomes(found: dict[str, Any], version: str = "2") -> dict[str, Any]:
    told: dict[str, Any] = found["arms"][version].get("outcomes", {}).get("worth", {})
    return told


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strategy", [EXPERIMENT, SHADOW, CANARY], ids=lambda s: s["type"])
def test_who_asks_first_hears_what_others_heard_in_parts(
    strategy: dict[str, Any], seed: int, store: EventStore
) -> None:
    """Verify one answer from a process that read on and one that begins: over halves that wait in vain, labels before
    their predictions, contradictions, files that are joined, and questions at any moment."""
    draw = random.Random(seed)
    reader, known, asking = opened(store), (), asked(strategy)
    for moment in range(1, 200):
        now = BEGAN + moment
        for _ in range(draw.randrange(3)):
            number = draw.randrange(80)
            for version in ("1", "2") if strategy is SHADOW else ("12"[number % 2],):
                told = {"route": "arm", "unit": f"{number % 20:016x}"}
                told |= {"version": version, "mirrored": strategy is SHADOW and version == "2"}
                source = f"/p/models/m/versions/{version}"
                score = draw.random()
                made = draw.choice(("row", "row", "pair", "half", "late"))
                if made == "row":
                    store.add(prediction(f"q{number}", received=now - draw.random(), score=score, **told))
                if made in ("pair", "late"):
                    store.add(request(f"q{number}", source=source, received=now - draw.random()))
                if made in ("pair", "half"):
                    store.add(response(f"q{number}", source=source, received=now, scores=[score], **told))
        for _ in range(draw.randrange(3)):
            store.add(
                label(f"q{draw.randrange(80)}", draw.randrange(2), received=now - draw.random(), at=BEGAN)
            )
        if draw.random() < 0.15:
            store.consolidate_until(now - 1)
            if draw.random() < 0.5:
                found = reader.answer(asking)
                assert orjson.dumps(found) == orjson.dumps(opened(store).answer(asking))
                values = tuple(found.get("paired", {}).get("brier", {}).get("values", ()))
                assert values[: len(known)] == known
                known = values
    assert len(known) > 10 or outcomes(found)["n"] >= 10
    told_parts = store.events().manifest().parts
    assert any(part.rows > 30 for part in told_parts)  # some were joined


def test_only_what_was_asked_for_after_is_sent_of_paired_values(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        for version in "12":
            ask(store, number, number + 1, version=version, mirrored=version == "2", score=number / 8)
        tell(store, number, number + 2)
    store.consolidate_until(BEGAN + 20)
    releases = opened(store)
    whole = releases.answer(asked(SHADOW))["paired"]["brier"]
    assert (whole["from"], len(whole["values"])) == (0, 6)
    rest = releases.answer(asked(SHADOW, pairedAfter={"brier": 4}))["paired"]["brier"]
    assert rest == {"from": 4, "values": whole["values"][4:]}
    assert releases.answer(asked(SHADOW, pairedAfter={"brier": 9}))["paired"]["brier"] == {
        "from": 6,
        "values": [],
    }
    monkeypatch.setattr(live, "MOST_PAIRED", 2)
    part = releases.answer(asked(SHADOW, pairedAfter={"brier": 1}))["paired"]["brier"]
    assert part == {"from": 1, "values": whole["values"][1:3]}


def test_nothing_is_said_before_the_store_is_complete(store: EventStore) -> None:
    """Verify that rows which lie in the store count no sooner than all that was received with them."""
    ask(store, 1, 3.0)
    ask(store, 3, 8.5)
    store.consolidate()
    releases = opened(store)
    with pytest.raises(WaitError, match="nothing counts yet"):
        releases.answer(asked())
    store.consolidate_until(BEGAN + 8)
    assert releases.answer(asked())["arms"]["2"]["units"] == 1
    store.consolidate_until(BEGAN + 9)
    assert releases.answer(asked())["arms"]["2"]["units"] == 2


def test_what_came_before_the_beginning_is_no_evidence(store: EventStore) -> None:
    ask(store, 1, -1.0)
    ask(store, 3, 1.0)
    tell(store, 3, 2.0)
    store.consolidate_until(BEGAN + 30)
    found = opened(store).answer(asked())
    assert (found["arms"]["2"]["units"], outcomes(found)) == (1, {"n": 1, "y": 1.0, "yy": 1.0})


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        pytest.param({"route": "weights"}, 1, id="by-weight"),
        pytest.param({"route": None}, 1, id="a-router-that-says-nothing"),
        pytest.param({"route": "match"}, 0, id="its-caller-chose"),
        pytest.param({"mirrored": True}, 0, id="a-copy"),
        pytest.param({"version": "3"}, 0, id="another-version"),
        pytest.param({"model": "other"}, 0, id="another-model"),
        pytest.param({"score": None, "answered_by": None}, 0, id="no-answer"),
        pytest.param({"score": {"class": "b"}}, 1, id="an-answer-that-is-no-number"),
        pytest.param({"score": None}, 1, id="ours-answered-not-a-number"),
    ],
)
def test_which_predictions_have_an_outcome(store: EventStore, fields: dict[str, Any], counted: int) -> None:
    ask(store, 1, 1.0, **{"route": "weights", "unit": None, **fields})
    tell(store, 1, 2.0)
    store.consolidate_until(BEGAN + 30)
    assert outcomes(opened(store).answer(asked(CANARY))).get("n", 0) == counted


def test_units_that_nobody_told_are_no_units_and_the_reason_is_said(store: EventStore) -> None:
    """Verify that with KServe's own logger an experiment is inconclusive, and not without a unit."""
    for number in range(20):
        source = f"kserve-{number}"
        store.add(request(f"q{number}", source=source, received=BEGAN + 1.0))
        store.add(response(f"q{number}", source=source, version="2", received=BEGAN + 1.0))
    store.consolidate_until(BEGAN + 30)
    found = opened(store).answer(asked())
    assert found["arms"]["2"]["units"] == 0
    assert "20 of 20 predictions of version 2 do not say which unit it is of" in found["silent"]["feedback"]


def test_the_end_of_enrolment_may_move(store: EventStore) -> None:
    """Verify that a pause which moves the end enrols whom it enrols for one who asks for the first time."""
    for number, second in ((1, 5.0), (3, 95.0), (5, 120.0)):
        ask(store, number, second)
    store.consolidate_until(BEGAN + 90)
    releases = opened(store)

    def until(second: float) -> dict[str, Any]:
        return {"enrolledUntil": datetime.fromtimestamp(BEGAN + second, UTC).isoformat()}

    assert releases.answer(asked(**until(100)))["arms"]["2"]["units"] == 1
    store.consolidate_until(BEGAN + 130)
    assert releases.answer(asked(**until(100)))["arms"]["2"]["units"] == 2
    assert releases.answer(asked(**until(125)))["arms"]["2"]["units"] == 3
    assert releases.answer(asked(**until(90)))["arms"]["2"]["units"] == 1


def test_files_from_before_a_column_was_kept_are_read(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a store which an older collector began, and this one joins and goes on with, is evidence."""

    def older(table: Any, path: Path) -> None:
        there = [name for name in table.column_names if name not in ("known", "route", "unit")]
        pq.write_table(table.select(there), path)

    with monkeypatch.context() as before:
        before.setattr(parts, "write", older)
        before.setattr(parts, "latest", lambda table: 0.0)
        for number in (1, 3):
            ask(store, number, number)
        store.consolidate(BEGAN + 5)
    manifest = store.folder / "manifest.json"
    plain = orjson.loads(manifest.read_bytes())
    del plain["latest"], plain["until"]
    manifest.write_bytes(orjson.dumps(plain))
    tell(store, 1, 6.0)
    ask(store, 5, 7.0)
    tell(store, 5, 8.0)
    store.consolidate_until(BEGAN + 9)
    found = opened(store).answer(asked(CANARY))
    assert outcomes(found) == {"n": 2, "y": 2.0, "yy": 2.0}
    assert found["at"].startswith(datetime.fromtimestamp(BEGAN + 9, UTC).isoformat())
    store.consolidate_until(BEGAN + 10)
    assert outcomes(opened(store).answer(asked(CANARY))) == outcomes(found)


def test_old_files_without_a_date_of_their_own_are_not_fetched(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that of what an older collector stored only what may count is opened."""
    for number, second in ((1, -100_000.0), (3, -80_000.0), (5, 1.0)):
        ask(store, number, second)
        store.consolidate(BEGAN)
    manifest = store.folder / "manifest.json"
    plain = orjson.loads(manifest.read_bytes())
    plain["latest"] = {}
    manifest.write_bytes(orjson.dumps(plain))
    store.consolidate_until(BEGAN + 5)
    opened_paths: list[Path] = []
    bounds = stored.known_between
    monkeypatch.setattr(stored, "known_between", lambda path: (opened_paths.append(path), bounds(path))[1])
    assert opened(store).answer(asked())["arms"]["2"]["units"] == 1
    assert len(opened_paths) == 2


def test_a_release_that_begins_by_a_clock_ahead_waits_and_is_no_mistake(store: EventStore) -> None:
    ask(store, 1, 5.0)
    store.consolidate_until(BEGAN + 1)
    now = BEGAN + 10_000.0
    soon = asked(since=datetime.fromtimestamp(BEGAN + 1_000_000 + 59, UTC).isoformat())
    with pytest.raises(WaitError, match="nothing counts yet"):
        opened(store, now=lambda: now).answer(soon)
    with pytest.raises(WindlassError, match="lies in the future"):
        asked(since=datetime.fromtimestamp(BEGAN + 1_000_000 + 61, UTC).isoformat())


def test_a_file_that_is_replaced_while_it_is_read_costs_a_try(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that what was counted before stays, and that the next question reads the new files."""
    ask(store, 1, 1.0)
    store.consolidate_until(BEGAN + 2)
    releases = opened(store)
    assert releases.answer(asked())["arms"]["2"]["units"] == 1
    ask(store, 3, 3.0)
    store.consolidate_until(BEGAN + 4)
    bounds, gone = stored.known_between, []

    def once(path: Path) -> tuple[int, int]:
        if not gone:
            gone.append(path)
            raise FileNotFoundError(path)
        return bounds(path)

    monkeypatch.setattr(stored, "known_between", once)
    with pytest.raises(WaitError, match="ask again"):
        releases.answer(asked())
    assert releases.answer(asked())["arms"]["2"]["units"] == 2


def test_a_damaged_file_is_told_and_nothing_of_it_stays(store: EventStore) -> None:
    ask(store, 1, 1.0)
    store.consolidate_until(BEGAN + 2)
    (part,) = store.folder.glob("predictions/*/*/*.parquet")
    content = part.read_bytes()
    part.write_bytes(b"PAR1" + content[4:-100])
    releases = opened(store)
    with pytest.raises(Exception, match="Parquet"):
        releases.answer(asked())
    assert len(releases) == 0
    part.write_bytes(content)
    assert releases.answer(asked())["arms"]["2"]["units"] == 1


def test_a_question_waits_for_a_while_and_then_says_how_far_it_is(store: EventStore) -> None:
    """Verify progress, that reading goes on between questions, and how long it took in the end."""
    for number in range(6):
        ask(store, number, 2.0 * number + 1)
        store.consolidate_until(BEGAN + 2 * number + 2)
    time = iter(range(10_000))
    releases = opened(store, clock=lambda: float(next(time)))
    with pytest.raises(
        WaitError, match=r"reading what was stored since 2023-11-15T12:00:00\+00:00: \d+ % of the rows"
    ):
        releases.answer(asked())
    while releases.work():
        pass
    assert releases.answer(asked())["arms"]["2"]["units"] == 3
    assert releases.rebuild_s is not None
    assert releases.rows == 6


def test_a_clock_that_was_ahead_is_no_answer_from_the_future(store: EventStore) -> None:
    """Verify silence while the store is complete up to a day to come, and evidence once that was set right."""
    ask(store, 1, 1.0)
    store.consolidate_until(BEGAN + 100_000)
    releases = opened(store)
    with pytest.raises(WaitError, match="was ahead"):
        releases.answer(asked())
    store.consolidate_until(BEGAN + 50)
    found = releases.answer(asked())
    assert found["arms"]["2"]["units"] == 1
    assert found["at"] == datetime.fromtimestamp(BEGAN + 50, UTC).isoformat()


def test_bounds_are_kept(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that neither releases nor what is remembered of them grow without end, and that this is said."""
    for number in range(12):
        ask(store, number, 1.0)
    store.consolidate_until(BEGAN + 2)
    monkeypatch.setattr(live, "MOST_RELEASES", 2)
    now = [0.0]
    releases = opened(store, clock=lambda: now[0])
    releases.answer(asked(name="one"))
    now[0] += live.IDLE_S / 2
    releases.answer(asked(name="two"))
    with pytest.raises(WaitError, match="2 releases are asked for"):
        releases.answer(asked(name="three"))
    now[0] = live.FORGOTTEN_AFTER_S
    releases.forget()
    assert len(releases) == 1
    monkeypatch.setattr(live, "MOST_HELD", 23)
    with pytest.raises(WindlassError, match="24 requests and units of release three wait"):
        releases.answer(asked(name="three"))
    assert not releases.work()


def test_where_there_is_no_room_only_the_release_that_holds_most_waits(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that the others are answered, and that it is counted again, to the same, when there is room."""
    for number in range(12):
        ask(store, number, 1.0, unit=f"{number // 2:016x}")
    tell(store, 1, 2.0)
    store.consolidate_until(BEGAN + 10)
    now = [0.0]
    releases = opened(store, clock=lambda: now[0])
    later = datetime.fromtimestamp(BEGAN + 5, UTC).isoformat()
    big = asked({**EXPERIMENT, "outcomeDelay": "1h"}, name="big")
    small = asked(SHADOW, name="small", since=later)
    whole = releases.answer(big)
    monkeypatch.setattr(live, "MOST_HELD", releases._held() + 2)
    assert releases.answer(small)["arms"]["2"]["requests"] == 0
    store.add(
        *(
            prediction(f"s{n}", version="1", at=BEGAN + 11, received=BEGAN + 11, route="match")
            for n in range(6)
        )
    )
    store.consolidate_until(BEGAN + 12)
    for _ in range(3):
        assert releases.answer(small)["at"] == datetime.fromtimestamp(BEGAN + 12, UTC).isoformat()
        with pytest.raises(WaitError, match="of release big wait"):
            releases.answer(big)
    assert len(releases) == 2
    now[0] += live.IDLE_S
    found = releases.answer(big)
    assert {**found, "at": ""} == {**whole, "at": ""}
    assert len(releases) == 1


def test_a_release_that_nobody_asks_for_gives_way(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that what fills every place blocks no other release for longer than it is asked for."""
    ask(store, 1, 1.0)
    store.consolidate_until(BEGAN + 10)
    monkeypatch.setattr(live, "MOST_RELEASES", 2)
    now = [0.0]
    releases = opened(store, clock=lambda: now[0])
    releases.answer(asked(name="invented"))
    now[0] += live.IDLE_S - 1
    releases.answer(asked(name="asked-for"))
    with pytest.raises(WaitError, match="end a release"):
        releases.answer(asked(name="real"))
    now[0] += 1
    assert releases.answer(asked(name="real"))["arms"]["2"]["units"] == 1
    with pytest.raises(WaitError, match="end a release"):
        releases.answer(asked(name="invented"))


def test_an_experiment_of_more_units_than_may_wait_goes_on(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that units which are over take no place of those that wait."""
    monkeypatch.setattr(live, "MOST_HELD", 12)
    for number in range(200):
        ask(store, number, number + 0.5)
    store.consolidate_until(BEGAN + 260)
    experiment = {**EXPERIMENT, "outcomeDelay": "1s", "maxDuration": "1h", "period": "1h"}
    found = opened(store).answer(asked(experiment))
    assert (found["arms"]["1"]["units"], found["arms"]["2"]["units"]) == (100, 100)


def test_what_a_shadow_holds_counts(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        for version in "12" if number < 3 else "1":
            ask(store, number, 1.0, version=version, mirrored=version == "2")
        tell(store, number + 3, 2.0)
    store.consolidate_until(BEGAN + 10)
    releases = opened(store)
    releases.answer(asked(SHADOW))
    # 3 pairs without a label, 5 answers without a copy, 5 labels of those
    assert releases._held() == 13
    store.add(label("elsewhere", 1, at=BEGAN + 700, received=BEGAN + 700))
    store.consolidate_until(BEGAN + 700)
    releases.answer(asked(SHADOW))
    assert releases._held() == 8


def test_what_a_store_lost_is_silence(tmp_path: Path) -> None:
    """Verify that a release which began before the store did is not told fewer requests than there were."""
    stores = {}
    for name, began in (("before", BEGAN - 30), ("with", BEGAN + 50), ("after", BEGAN + 61)):
        stores[name] = EventStore(home(tmp_path / name))
        begin(stores[name].folder, began)
        ask(stores[name], 1, 70.0)
        stores[name].consolidate_until(BEGAN + 80)
        stores[name].consolidate_until(BEGAN + 90)
    for name in ("before", "with"):
        assert "silent" not in opened(stores[name]).answer(asked(SHADOW)), name
    silent = opened(stores["after"]).answer(asked(SHADOW))["silent"]
    assert set(silent) == {"predictions", "feedback"}
    assert (
        "began at 2023-11-15T12:00:00+00:00, and the collector's store only at 2023-11-15T12:01:01"
        in silent["feedback"]
    )


def test_what_expired_before_it_was_read_is_silence(tmp_path: Path) -> None:
    """Verify that one who counted it goes on, one who begins is silent, and later and other releases are not hurt."""
    day = 86_400.0
    store = EventStore(home(tmp_path), keep_predictions_days=2)
    ask(store, 1, 1.0)
    store.consolidate_until(BEGAN + 10)
    now = BEGAN + 10 * day
    began = opened(store, now=lambda: now)
    assert "silent" not in began.answer(asked(SHADOW))
    # who states an early time has no say in what is lost
    store.add(prediction("old", at=0.0, received=BEGAN + 20.0))
    for later in range(1, 5):
        ask(store, 2 * later, later * day)
        store.add(
            prediction(f"o{later}", model="other", at=BEGAN + later * day, received=BEGAN + later * day)
        )
        store.consolidate_until(BEGAN + later * day + 5)
        assert "silent" not in began.answer(asked(SHADOW))
    anew = opened(store, now=lambda: now)
    assert (
        "of m the store keeps nothing from before 2023-11-17"
        in anew.answer(asked(SHADOW))["silent"]["predictions"]
    )
    later_on = datetime.fromtimestamp(BEGAN + 2 * day, UTC).isoformat()
    question = asked(SHADOW, name="later", since=later_on)
    assert "silent" not in anew.answer(question)


def test_another_release_of_the_name_is_a_conflict_unless_it_began_later(store: EventStore) -> None:
    ask(store, 1, 1.0)
    store.consolidate_until(BEGAN + 10)
    releases = opened(store)
    releases.answer(asked())
    with pytest.raises(ConflictError, match="known as another one"):
        releases.answer(asked(CANARY))
    later = datetime.fromtimestamp(BEGAN + 5, UTC).isoformat()
    assert "units" not in releases.answer(asked(CANARY, since=later))["arms"]["2"]
    with pytest.raises(ConflictError):
        releases.answer(asked())
