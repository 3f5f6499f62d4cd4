"""The sample of served vectors that an analysis recomputes, out of a real store and offline rows of a real build."""

from __future__ import annotations

from pathlib import Path

import pytest
import shop_features
from event_store import NOON, EventStore, prediction
from shop_features import EVERY_S, MODEL, Shop

from monitoring.analysis import skewed
from monitoring.analysis.inputs import AnalysisPolicy, SkewSample
from windlass.features import asof, parity


def sampled(shop: Shop) -> SkewSample:
    store = EventStore(shop.settings)
    entries = []
    for number in range(40):
        served = shop.served(number, NOON + number)
        served["features"][0] += number % 4 == 0
        entries.append(prediction(f"q{number}", **served))
    store.add(*entries)
    store.consolidate(now=NOON + 60)
    return skewed.sample(shop.settings, shop.workload, store.events().window(MODEL), AnalysisPolicy())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = shop_features.make(tmp_path, NOON - 1800)
    made.publish("1")
    return made


def test_wrong_vectors_are_counted_and_inputs_named(shop: Shop) -> None:
    shop.build(int(NOON) + EVERY_S)
    found = sampled(shop)
    assert (found.checked, found.mismatched, found.by_input["sales"]) == (40, 10, 10)


def test_only_what_the_rows_reach_is_compared(shop: Shop) -> None:
    shop.build(int(NOON))
    assert sampled(shop).checked == 1


def test_rows_of_a_build_that_has_not_finished_accuse_nobody(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify it of one that began before, and of one that began meanwhile."""
    shop.build(int(NOON) + EVERY_S, changed=7.0)
    manifest = shop.settings.offline_dir / f"{MODEL}.json"
    stood = manifest.read_bytes()
    manifest.unlink()
    assert sampled(shop) == SkewSample(0, 0, {}, skewed.UNFINISHED)
    manifest.write_bytes(stood)
    check = parity.check

    def meanwhile(*arguments: object, **more: object) -> object:
        found = check(*arguments, **more)  # type: ignore[arg-type] # handed on as they are
        manifest.unlink()
        return found

    monkeypatch.setattr(parity, "check", meanwhile)
    assert sampled(shop) == SkewSample(0, 0, {}, skewed.UNFINISHED)


def test_hashed_entities_accuse_nobody(tmp_path: Path) -> None:
    """Verify that a hash, under which no feature lies, is no fault of the version's."""
    shop = shop_features.make(tmp_path, NOON - 1800, privacy='{"shop": "hash"}')
    shop.publish("1")
    shop.build(int(NOON) + EVERY_S)
    found = sampled(shop)
    assert found.checked == 0 and "no plain value of 'shop' (hash)" in str(found.reason)


def test_how_far_rows_reach_is_what_the_newest_one_says(shop: Shop) -> None:
    shop.build(int(NOON) + EVERY_S)
    assert asof.reach(shop.workload, shop.settings) == NOON + EVERY_S
