"""Vectors that candidates served, recomputed from offline rows that a real build wrote, out of a real store."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shop_features
from event_store import EventStore, prediction
from shop_features import EVERY_S, MODEL, Shop

from monitoring.collector.names import Names
from monitoring.collector.place import place
from monitoring.release_evidence import live, question, skew, vectors
from monitoring.release_evidence.live import Releases
from monitoring.release_evidence.recomputing import Recomputing
from monitoring.release_evidence.vectors import Vector
from serving.release.journal import evidence_json
from windlass.errors import UsageError

BEGAN = 1_700_049_600
SKEWED = {"name": "skew", "kind": "guardrail", "metric": "featureSkew", "source": "predictions", "bound": 2}
ERRORS = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 2}

Serve = Callable[..., None]


def asked(*checks: dict[str, Any], **fields: Any) -> question.Question:
    described = {
        "model": MODEL,
        "candidate": "2",
        "champion": "1",
        "backend": "gateway",
        "strategy": {"type": "canary", "steps": [{"weight": 50}]},
        "checks": [*(checks or (ERRORS, SKEWED))],
    }
    body = {
        "release": {"kind": "Release", "metadata": {"name": "r"}, "spec": {**described, **fields}},
        "champion": "1",
        "since": datetime.fromtimestamp(BEGAN, UTC).isoformat(),
    }  # fmt: skip
    return question.read(body, now=BEGAN + 1_000_000)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = shop_features.make(tmp_path, BEGAN - 1800)
    for version in "12":
        made.publish(version)
    return made


@pytest.fixture
def store(shop: Shop) -> EventStore:
    return EventStore(shop.settings, compact_parts=2)


def opened(shop: Shop, **more: Any) -> Releases:
    fixed = {"now": lambda: BEGAN + 1_000_000, "clock": lambda: 0.0, **more}
    return Releases(
        place(shop.settings), recomputing=Recomputing(shop.settings, Names(shop.settings)), **fixed
    )


def serve(
    shop: Shop,
    store: EventStore,
    numbers: range,
    *,
    at: Callable[[int], float] = lambda number: BEGAN + 1.05 + number / 10,
    **fields: Any,
) -> None:
    """Requests one after the other, the versions in turn, served as they should be but for `fields`."""
    entries = []
    for number in numbers:
        told = {
            **shop.served(number, at(number)),
            "version": "12"[number % 2],
            "received": at(number),
            **fields,
        }
        entries.append(prediction(f"q{number:05d}", **told))
    store.add(*entries)


def wrong(shop: Shop, store: EventStore, numbers: range, place: int = 0) -> None:
    """Answers of the candidate by a vector of which one value is of another shop."""
    for number in numbers:
        right = shop.served(number, BEGAN + 1.05 + number / 10)
        vector = list(right["features"])
        vector[place] += 1000
        serve(shop, store, range(number, number + 1), version="2", features=vector)


def arm(found: dict[str, Any], version: str = "2") -> dict[str, Any]:
    return {name: found["arms"][version].get(name) for name in ("skew", "skewByInput", "silent")}


def test_a_wrong_input_is_found_and_an_honest_version_is_not_accused(shop: Shop, store: EventStore) -> None:
    """Verify counts by version, and that the input is named; mirrored copies count as other answers do."""
    shop.build(BEGAN + 600)
    serve(shop, store, range(60))
    wrong(shop, store, range(101, 131, 2))
    serve(shop, store, range(131, 151, 2), version="2", mirrored=True)
    store.consolidate_until(BEGAN + 60)
    found = opened(shop).answer(asked())
    assert arm(found, "1") == {"skew": [24, 0], "skewByInput": None, "silent": None}
    # four of a second at most, and five were asked
    assert arm(found) == {"skew": [24 + 12 + 8, 12], "skewByInput": {"sales": 12}, "silent": None}
    assert evidence_json.to_json(evidence_json.from_json(found, {}), {}) == found


def test_who_is_compared_is_no_caller_s_choice(shop: Shop, store: EventStore) -> None:
    """Verify that whose ids come first, and many, do not keep the others from being looked at; that another release
    draws others; and that the same one draws the same again."""
    shop.build(BEGAN + EVERY_S)
    for second in range(10):
        entries = []
        for number in range(40):
            at = BEGAN + 1.02 + second + number / 50
            right = shop.served(number, at)
            skewed = number % 2 == 0
            vector = [right["features"][0] + skewed, *right["features"][1:]]
            name = f"{'z' if skewed else '0'}{second:02d}{number:03d}"
            entries.append(prediction(name, **{**right, "version": "2", "received": at, "features": vector}))
        store.add(*entries)
    store.consolidate_until(BEGAN + 30)
    found = arm(opened(shop).answer(asked()))["skew"]
    # of 40 by a fair coin
    assert found[0] == 40 and 8 <= found[1] <= 32
    assert arm(opened(shop).answer(asked()))["skew"] == found
    known = vectors.key(1.5, BEGAN)
    assert (
        known != vectors.key(1.5, BEGAN + 1e-6)
        and known != vectors.key(1.5 + 1e-6, BEGAN)
        and len(known) == 16
    )


@pytest.mark.parametrize("compacted", [False, True])
def test_a_process_that_begins_anew_comes_to_the_same(shop: Shop, store: EventStore, compacted: bool) -> None:
    """Verify it at every moment, whatever was read at once, which files a second lies in, and when rows came."""
    draw = random.Random(compacted)
    numbers = list(range(400))
    draw.shuffle(numbers)
    store = EventStore(shop.settings, compact_parts=2 if compacted else 1000)
    releases, until = opened(shop), BEGAN
    for moment in range(10, 60, 10):
        # what is received in one second lies in files of its own, in any order
        for number in [n for n in numbers if moment - 10 <= 1.05 + n / 10 < moment]:
            vector = shop.served(number, BEGAN + 1.05 + number / 10)["features"]
            vector[1] += draw.random() < 0.2
            serve(shop, store, range(number, number + 1), features=vector)
            if draw.random() < 0.1:
                store.consolidate()
        store.consolidate_until(BEGAN + moment)
        until = BEGAN + moment // 20 * EVERY_S
        shop.build(until)
        found = releases.answer(asked())
        assert orjson.dumps(opened(shop).answer(asked())) == orjson.dumps(found)
    assert arm(found)["skew"][0] == 4 * 40
    assert 0 < arm(found)["skew"][1] < 60


def test_answers_that_the_model_did_not_give_accuse_nobody(shop: Shop, store: EventStore) -> None:
    """Verify that what stood in for it, before features were looked up or after, is left out of the counts and takes no
    place of theirs; and that an empty online store, whose vectors the model did answer by, is found."""
    shop.build(BEGAN + EVERY_S)
    serve(shop, store, range(40))
    for number in range(40):
        right = shop.served(number, BEGAN + 1.05 + number / 10)["features"]
        at = BEGAN + 1.01 + number / 10
        entries = [
            prediction(
                f"{by}{number:05d}", **{**shop.served(number, at), "version": "2", "received": at, **fields}
            )
            for by, fields in {
                "a": {"answered_by": "static", "features": []},
                "b": {"answered_by": "fallback", "features": [right[0] + 1, *right[1:]]},
            }.items()
        ]
        store.add(*entries)
    store.consolidate_until(BEGAN + 30)
    assert arm(opened(shop).answer(asked())) == {"skew": [16, 0], "skewByInput": None, "silent": None}
    serve(shop, store, range(300, 320), features=[None] * 5, answered_by="cache")
    store.consolidate_until(BEGAN + 60)
    assert arm(opened(shop).answer(asked()))["skew"] == [24, 8]


def test_vectors_wait_for_the_offline_rows(shop: Shop, store: EventStore) -> None:
    """Verify that nothing is compared with rows that do not reach it, and all of it once they do; and that the check is
    silent where none could be compared, and where some wait for longer than two turns."""
    serve(shop, store, range(40))
    store.consolidate_until(BEGAN + 30)
    releases = opened(shop)
    found = arm(releases.answer(asked()))
    assert found["skew"] is None and "no finished offline rows" in found["silent"]["featureSkew"]
    shop.build(BEGAN)
    found = arm(releases.answer(asked()))
    assert found["skew"] is None
    assert found["silent"]["featureSkew"].startswith("16 vectors of version 2 wait for offline rows")
    assert datetime.fromtimestamp(BEGAN, UTC).isoformat() in found["silent"]["featureSkew"]
    shop.build(BEGAN + EVERY_S)
    assert arm(releases.answer(asked())) == {"skew": [16, 0], "skewByInput": None, "silent": None}
    later = BEGAN + EVERY_S + 60
    serve(shop, store, range(100, 140), at=lambda number: later + 0.05 + number / 10)
    store.consolidate_until(later + 60)
    assert arm(releases.answer(asked())) == {"skew": [16, 0], "skewByInput": None, "silent": None}
    store.consolidate_until(later + 4 * 3600)
    found = arm(releases.answer(asked()))
    assert found["skew"] == [16, 0] and "wait for offline rows" in found["silent"]["featureSkew"]
    shop.build(later + EVERY_S)
    assert arm(releases.answer(asked())) == {"skew": [32, 0], "skewByInput": None, "silent": None}


def test_rows_that_are_being_written_are_not_compared_with(
    shop: Shop, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that files of two builds are taken for none: an honest version differs from the older ones."""
    shop.build(BEGAN)
    serve(shop, store, range(40))
    store.consolidate_until(BEGAN + 30)
    releases = opened(shop)
    releases.answer(asked())
    manifest = shop.settings.offline_dir / f"{MODEL}.json"
    stood = manifest.read_bytes()
    shop.build(BEGAN + EVERY_S, changed=7.0)
    manifest.unlink()
    assert arm(releases.answer(asked()))["skew"] is None
    # written while they are read: what was found is of no build
    manifest.write_bytes(stood.replace(b'"content_hash": "', b'"content_hash": "other-'))
    compare = Recomputing.compare

    def meanwhile(self: Recomputing, model: str, some: list[Vector], build: str) -> Any:
        shop.build(BEGAN + EVERY_S)
        return compare(self, model, some, build)

    with monkeypatch.context() as during:
        during.setattr(Recomputing, "compare", meanwhile)
        assert arm(releases.answer(asked()))["skew"] is None
    assert arm(releases.answer(asked())) == {"skew": [16, 0], "skewByInput": None, "silent": None}


def test_rows_that_are_corrected_count_for_what_is_compared_from_then_on(
    shop: Shop, store: EventStore
) -> None:
    """Verify that what was counted stands, and that a process that begins anew holds all to the corrected rows."""
    shop.build(BEGAN + EVERY_S, changed=7.0)
    serve(shop, store, range(40))
    store.consolidate_until(BEGAN + 30)
    releases = opened(shop)
    assert arm(releases.answer(asked()))["skew"] == [16, 16]
    shop.build(BEGAN + EVERY_S)
    assert arm(releases.answer(asked()))["skew"] == [16, 16]
    assert arm(opened(shop).answer(asked()))["skew"] == [16, 0]


def unmounted(shop: Shop) -> None:
    (shop.settings.bundles_dir / MODEL / "2" / "serving.json").unlink()


def rebuilt(shop: Shop) -> None:
    path = shop.settings.bundles_dir / MODEL / "2" / "serving.json"
    document = orjson.loads(path.read_bytes())
    document["inputs"].reverse()
    path.write_bytes(orjson.dumps(document))


def broken(shop: Shop) -> None:
    (shop.settings.bundles_dir / MODEL / "2" / "rates.py").write_text(
        "def per_visit(columns): raise KeyError('x')"
    )


def torn(shop: Shop) -> None:
    for path in shop.settings.offline_dir.glob("takings/*.parquet"):
        path.write_bytes(b"PAR1")


def unloadable(shop: Shop) -> None:
    (shop.settings.project / "workloads" / MODEL / "workload.py").write_text(
        "raise RuntimeError('half edited')"
    )


def unknown(shop: Shop) -> None:
    (shop.settings.project / "workloads" / MODEL / "workload.py").unlink()


@pytest.mark.parametrize(
    ("lack", "fields", "words"),
    [
        pytest.param(unmounted, {}, "no bundle of version 2 in", id="no-bundle"),
        pytest.param(rebuilt, {}, "serve and mount one build of it", id="other-inputs"),
        pytest.param(broken, {}, "cannot be recomputed", id="a-transformation-that-fails"),
        pytest.param(torn, {}, "cannot be recomputed", id="a-damaged-file"),
        pytest.param(unloadable, {}, "half edited", id="a-broken-workload"),
        pytest.param(unknown, {}, "is no workload of the collector's project", id="an-unknown-workload"),
        pytest.param(None, {"source": "cached"}, "16 come from another source than the online store (cached)",
                     id="cached"),
        pytest.param(None, {"source": None}, "16 do not say where their features come from", id="kserve"),
        pytest.param(None, {"entities": {}}, "16 name no entity", id="no-entity"),
        pytest.param(None, {"features": []}, "16 have no feature vector", id="no-vector"),
        pytest.param(None, {"features": [None] * 5, "answered_by": None}, "16 have no feature vector",
                     id="no-value-and-nobody-says-who-answered"),
        pytest.param(None, {"answered_by": "static"}, "16 were answered by what stands in for the model (static)",
                     id="static"),
        pytest.param(None, {"source": "none"}, "16 come from another source than the online store (none)", id="none"),
        pytest.param(None, {"features": [1.0]}, "16 have another number of values", id="another-width"),
        pytest.param(None, {"at": lambda number: BEGAN + 5000.0, "received": BEGAN + 1.5},
                     "4 state a moment that is yet to come", id="a-moment-to-come"),
        pytest.param(None, {"version": "3"}, "no answer of version 2 is in the collector's store", id="no-answer"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_and_is_never_good(
    shop: Shop, store: EventStore, lack: Callable[[Shop], None] | None, fields: dict[str, Any], words: str
) -> None:
    """Verify the reason, that it is one of this check and of this version, and that all else is answered."""
    shop.build(BEGAN + EVERY_S)
    for number in range(40):
        serve(shop, store, range(number, number + 1), **(fields if number % 2 else {}))
    store.consolidate_until(BEGAN + 30)
    if lack is not None:
        lack(shop)
    found = opened(shop).answer(asked())
    assert arm(found)["skew"] is None
    assert words in found["arms"]["2"]["silent"]["featureSkew"], found["arms"]["2"]
    assert "silent" not in found
    if lack in (None, unmounted, rebuilt, broken):
        assert arm(found, "1") == {"skew": [16, 0], "skewByInput": None, "silent": None}


def odd(shop: Shop, shops: str) -> None:
    """Version 2 fails for some shops alone, by what the offline rows say of them."""
    (shop.settings.bundles_dir / MODEL / "2" / "rates.py").write_text(
        f"""
def per_visit(columns):
    if any(int(s // 1000) in {shops} for s in columns["sales"]):
        raise KeyError("odd")
    return {{"per_visit": [s / v if v else None for s, v in zip(columns["sales"], columns["visits"])]}}
"""
    )


@pytest.mark.parametrize("shops", ["(3,)", "(1,)"])
def test_a_vector_that_cannot_be_recomputed_costs_no_other(
    shop: Shop, store: EventStore, shops: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that it is left out and said, wherever it stands; that a process that begins anew comes to the same; and
    that one that comes later is left out as well."""
    odd(shop, shops)
    shop.build(BEGAN + EVERY_S)
    serve(shop, store, range(60))
    store.consolidate_until(BEGAN + 30)
    releases = opened(shop)
    found = arm(releases.answer(asked()))
    said = capsys.readouterr().err
    whole = found["skew"][0]
    assert 12 <= whole < 24 and found["skew"][1] == 0 and found["silent"] is None
    assert "of version 2 of shop left out of featureSkew, request q0" in said and "KeyError: 'odd'" in said
    assert arm(opened(shop).answer(asked())) == found
    serve(shop, store, range(400, 410))
    store.consolidate_until(BEGAN + 60)
    found = arm(releases.answer(asked()))
    assert whole < found["skew"][0] <= whole + 4 and found["silent"] is None


def test_a_fault_of_all_is_no_vector_s(shop: Shop, store: EventStore) -> None:
    """Verify that what was not the vectors' fault is mended and loses none of them, before and after the first one was
    compared; and that a version of which most vectors fail says so."""
    shop.build(BEGAN + EVERY_S)
    serve(shop, store, range(40))
    store.consolidate_until(BEGAN + 30)
    releases = opened(shop)
    code = shop.settings.bundles_dir / MODEL / "2" / "rates.py"
    right = code.read_bytes()
    odd(shop, "range(10)")
    for _ in range(3):
        found = arm(releases.answer(asked()))
        assert found["skew"] is None and "KeyError: 'odd'" in found["silent"]["featureSkew"]
    code.write_bytes(right)
    assert arm(releases.answer(asked())) == {"skew": [16, 0], "skewByInput": None, "silent": None}
    odd(shop, "range(10)")
    serve(shop, store, range(400, 440), at=lambda number: BEGAN + 1.05 + number / 10)
    store.consolidate_until(BEGAN + 60)
    for _ in range(3):
        found = arm(releases.answer(asked()))
        assert found["skew"] == [16, 0] and "KeyError: 'odd'" in found["silent"]["featureSkew"]
    assert arm(opened(shop).answer(asked()))["skew"] is None
    code.write_bytes(right)
    assert arm(releases.answer(asked())) == {"skew": [32, 0], "skewByInput": None, "silent": None}
    odd(shop, "(1, 3, 5)")
    found = arm(opened(shop).answer(asked()))
    assert found["skew"] is not None and "cannot be recomputed, and only" in found["silent"]["featureSkew"]


def test_nobody_is_looked_up_by_a_hidden_name(tmp_path: Path) -> None:
    """Verify that an entity which is hashed before it is stored makes the check silent, and says whose rule that is;
    and that an input which is dropped is left out of the comparison and accuses nobody."""
    for name, privacy in (
        ("hashed", '{"shop": "hash"}'),
        ("dropped", '{"visits": "drop", "per_visit": "drop"}'),
    ):
        shop = shop_features.make(tmp_path / name, BEGAN - 1800, privacy=privacy)
        for version in "12":
            shop.publish(version)
        shop.build(BEGAN + EVERY_S)
        store = EventStore(shop.settings)
        serve(shop, store, range(40))
        for number in range(101, 121, 2):
            right = shop.served(number, BEGAN + 1.05 + number / 10)
            vector = [right["features"][0] + 1, None, *right["features"][2:4], None]
            serve(shop, store, range(number, number + 1), features=vector)
        for number in range(201, 221, 2):
            right = shop.served(number, BEGAN + 1.05 + number / 10)
            vector = [right["features"][0], None, *right["features"][2:4], None]
            serve(shop, store, range(number, number + 1), features=vector)
        store.consolidate_until(BEGAN + 30)
        found = arm(opened(shop).answer(asked()))
        if name == "hashed":
            assert (
                found["skew"] is None and "no plain value of 'shop' (hash)" in found["silent"]["featureSkew"]
            )
        else:
            assert found == {"skew": [16 + 8 + 8, 8], "skewByInput": {"sales": 8}, "silent": None}


def test_only_who_asks_pays_for_it(shop: Shop, store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that a release without the check reads no vector and names no reason, and that one is refused where nobody
    recomputes."""
    serve(shop, store, range(40))
    store.consolidate_until(BEGAN + 30)
    monkeypatch.setattr(vectors, "of_file", lambda *_: pytest.fail("nobody asked for vectors"))
    assert arm(opened(shop).answer(asked(ERRORS))) == {"skew": None, "skewByInput": None, "silent": None}
    with pytest.raises(UsageError, match="nobody recomputes"):
        Releases(place(shop.settings), now=lambda: BEGAN + 1000).answer(asked())


def test_what_waits_stays_small_and_counts_as_what_is_held() -> None:
    """Verify that memory grows with the logarithm of what is served, and that which vectors are taken follows from
    their order alone."""
    values = np.zeros(25).tobytes()

    class Never:
        def standing(self, *_: object) -> Any:
            raise AssertionError

    def after(seconds: int) -> skew.FeatureSkew:
        found = skew.FeatureSkew(MODEL, ("2",), Never())  # type: ignore[arg-type] # nothing is compared
        for second in range(seconds):
            found.add([Vector(f"{second}-{n}", "2", float(second), float(second), "online", values, b"{}", b"{}")
                       for n in range(vectors.PER_SECOND)])  # fmt: skip
        return found

    def waiting(found: skew.FeatureSkew) -> list[str]:
        return [vector.request_id for vector in found._versions["2"].waiting]

    whole = after(skew.WHOLE // vectors.PER_SECOND)
    assert len(waiting(whole)) == skew.WHOLE
    day = after(86_400)
    assert len(waiting(day)) < 5 * skew.WHOLE
    assert waiting(day)[: len(waiting(whole))][:1000] == waiting(whole)[:1000]
    assert day.held == len(waiting(day)) * (skew.VECTOR + len(values)) // skew.HELD


def test_comparing_takes_its_turns(shop: Shop, store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that a question is answered in time while much waits to be compared, that the check is silent until it is,
    and that it goes on meanwhile."""
    shop.build(BEGAN + EVERY_S)
    serve(shop, store, range(400))
    store.consolidate_until(BEGAN + 60)
    whole = opened(shop).answer(asked())
    monkeypatch.setattr(skew, "BATCH", 8)
    now = [0.0]
    compare = Recomputing.compare

    def slowly(self: Recomputing, *arguments: Any) -> Any:
        now[0] += live.PATIENCE_S / 3
        return compare(self, *arguments)

    monkeypatch.setattr(Recomputing, "compare", slowly)
    releases = opened(shop, clock=lambda: now[0])
    found = releases.answer(asked())
    assert arm(found, "1")["skew"] == [32, 0]
    assert arm(found, "1")["silent"] == {
        "featureSkew": "128 vectors of version 1 wait for their turn to be compared"
    }
    assert "silent" not in found
    turns = 0
    while releases.work():
        turns += 1
    assert turns == (320 - 32) / 8 + 1  # the last one finds nothing
    assert releases.answer(asked()) == whole


def test_a_bandits_champion_is_compared_as_well(shop: Shop, store: EventStore) -> None:
    """Verify counts of all versions, since a bandit judges all of them."""
    shop.build(BEGAN + EVERY_S)
    serve(shop, store, range(40))
    store.consolidate_until(BEGAN + 30)
    reward = {
        "name": "worth",
        "kind": "decision",
        "metric": "reward",
        "source": "feedback",
        "valueType": "binary",
    }
    bandit = asked(ERRORS, SKEWED, reward, strategy={"type": "bandit"})
    found = opened(shop).answer(bandit)
    assert arm(found, "1")["skew"] == arm(found, "2")["skew"] == [16, 0]
