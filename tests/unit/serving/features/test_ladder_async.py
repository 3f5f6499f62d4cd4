"""The ladder over a real redis: what hangs, stops or lies costs a request its budget at most, and only at first."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import struct
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis_server

from serving.runtime.bundle import Bundle
from serving.runtime.features import entity_key
from serving.runtime.features.ladder import BREAKER, Features, Ladder
from serving.runtime.features.redis_reader import RedisReader
from serving.runtime.features.sqlite_reader import SqliteReader

from .conftest import NOW, command, double, playing, store

Run = Callable[[Coroutine[Any, Any, Any]], Any]
UA = {"carrier": "UA", "origin": "JFK"}
AA = {"carrier": "AA", "origin": "LGA"}
ONLINE = [11.5, 0.4, 31.0]
DEFAULTS = [4.5, 0.25, 12.0]
PATIENT = 30.0  # a busy machine must not turn a read into a failure where the test is about something else


@pytest.fixture
def written(redis_url: str) -> str:
    store(redis_url, "carrier_delays", "carrier", "UA", {"delay_1h": double(11.5), "late_share": double(0.4)})
    store(redis_url, "origin_load", "origin", "JFK", {"departures": double(31.0)})
    return redis_url


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The ladder's lines: a thread of an earlier test may have a word too."""
    return [line for line in capsys.readouterr().err.splitlines() if "answer" in line]


def ladder_of(url: str, described: Bundle, budget_s: float = PATIENT, **more: Any) -> Ladder:
    return Ladder(described, RedisReader(url, described), budget_s=budget_s, **more)


async def climb(ladder: Ladder, *rows: dict[str, str], deadline: float | None = None) -> list[Features]:
    return await ladder.climb_async(rows, [NOW] * len(rows), deadline)


def test_a_batch_is_answered_row_by_row(run: Run, described: Bundle, written: str) -> None:
    async def main() -> None:
        ladder = ladder_of(written, described)
        await ladder.warm()
        assert not ladder.immediate
        features = await climb(ladder, UA, AA, UA)
        assert [f.source for f in features] == ["online"] * 3
        assert features[0].values == features[2].values == ONLINE
        assert all(math.isnan(v) for v in features[1].values)
        assert ladder.counts.rows == {"online": 3, "cached": 0, "default": 0}
        assert await climb(ladder) == []
        ladder.close()

    run(main())


def test_each_row_expires_at_its_own_time(run: Run, described: Bundle, written: str) -> None:
    """Verify that rows of one turn that share a key are judged each by its own "now"."""

    async def main() -> None:
        ladder = ladder_of(written, described)
        fresh, expired = await ladder.climb_async([UA, UA], [NOW + 86_400, NOW + 86_401])
        assert fresh.values == ONLINE
        assert all(math.isnan(v) for v in expired.values)
        ladder.close()

    run(main())


@pytest.mark.parametrize(
    ("field", "raw", "message"),
    [
        pytest.param("departures", b"\x12\x03abc", "expected a number", id="text"),
        pytest.param("departures", b"\x5a\x00", "not a scalar", id="list"),
        pytest.param("departures", b"\x29abc", "truncated", id="truncated"),
        pytest.param("_ts:", b"\xff\xff", "event time", id="no-time"),
        pytest.param(None, b"a string", "WRONGTYPE", id="no-hash"),
    ],
)
def test_a_poisoned_row_pulls_no_other_down(
    run: Run,
    described: Bundle,
    written: str,
    capsys: pytest.CaptureFixture[str],
    field: str | None,
    raw: bytes,
    message: str,
) -> None:
    import redis

    store(written, "origin_load", "origin", "BAD", {"departures": double(1.0)})
    key = entity_key.serialize([("origin", "string", "BAD")]) + b"windlass"
    with redis.Redis.from_url(written) as client:
        if field is None:
            client.set(key, raw)
        elif field == "_ts:":
            client.hset(key, "_ts:origin_load", raw)
        else:
            store(written, "origin_load", "origin", "BAD", {field: raw})

    async def main() -> None:
        ladder = ladder_of(written, described)
        for _ in range(BREAKER.failures + 1):
            features = await climb(ladder, UA, {"carrier": "UA", "origin": "BAD"}, UA)
            assert [f.source for f in features] == ["online", "default", "online"]
            assert features[1].values == [11.5, 0.4, 12.0]
        assert ladder.counts.failures == {"RowError": BREAKER.failures + 1}
        assert ladder.counts.breaker.state.phase == "closed"
        ladder.close()

    run(main())
    with redis.Redis.from_url(written) as client:
        client.delete(key)
    told = said(capsys)
    assert len(told) == 1
    assert message in told[0]


def test_a_deadline_shorter_than_the_budget_is_kept_and_is_no_failure_of_the_store(
    run: Run, described: Bundle, written: str
) -> None:
    """Verify that the answer which nobody waits for any more still tells the breaker, and is kept."""
    release = asyncio.Event()
    port = int(written.rpartition(":")[2].removesuffix("/0"))

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await command(reader)  # AUTH, which this redis would refuse
        writer.write(b"+OK\r\n")
        while data := await reader.read(65536):
            behind_writer.write(data)
            answer = await behind.read(65536)
            await release.wait()
            writer.write(answer)

    async def main() -> None:
        async with playing(slow) as url:
            ladder = ladder_of(url, described)
            [late] = await climb(ladder, UA, deadline=time.monotonic() + 0.2)
            assert (late.values, late.source) == (DEFAULTS, "default")
            assert ladder.counts.failures == {"deadline": 1}
            assert ladder.counts.breaker.state.failed == 0
            [over] = await climb(ladder, UA, deadline=time.monotonic() - 1)
            assert over.source == "default"
            release.set()
            [found] = await climb(ladder, AA)
            assert found.source == "online"
            # what came late was kept
            ladder.close()
            [kept] = await climb(ladder, UA, deadline=time.monotonic() - 1)
            assert (kept.values, kept.source) == (ONLINE, "cached")

    run(main())


def test_a_request_that_was_given_up_disturbs_no_other(run: Run, described: Bundle, written: str) -> None:
    async def main() -> None:
        ladder = ladder_of(written, described)
        for _ in range(50):
            given_up = asyncio.ensure_future(climb(ladder, AA))
            asked = asyncio.ensure_future(climb(ladder, UA))
            await asyncio.sleep(0)
            given_up.cancel()
            [features] = await asked
            assert features.values == ONLINE
        assert ladder.counts.failures == {}
        ladder.close()

    run(main())


def test_a_store_that_hangs_costs_a_budget_and_then_its_probes(
    run: Run, described: Bundle, tmp_path: Path
) -> None:
    """Verify with SIGSTOP: no request fails, nobody waits once the breaker is open, and the store is found again."""
    import redis

    with redis_server.running(tmp_path) as url:
        store(url, "carrier_delays", "carrier", "UA", {"delay_1h": double(11.5), "late_share": double(0.4)})
        store(url, "origin_load", "origin", "JFK", {"departures": double(31.0)})
        with redis.Redis.from_url(url) as client:
            process = client.info("server")["process_id"]

        async def main() -> None:
            policy = replace(BREAKER, backoff_s=30.0, longest_backoff_s=30.0)
            clock = time.monotonic
            shift = 0.0
            ladder = ladder_of(url, described, policy=policy, clock=lambda: clock() + shift)
            [before] = await climb(ladder, UA)
            assert before.values == ONLINE
            ladder._budget_s = 0.02
            os.kill(process, signal.SIGSTOP)
            try:
                [waited] = await climb(ladder, UA)
                assert (waited.values, waited.source) == (ONLINE, "cached")
                assert ladder.counts.breaker.state.phase == "open"
                for _ in range(100):
                    answered = asyncio.ensure_future(climb(ladder, UA, AA))
                    await asyncio.sleep(0)
                    assert answered.done()  # in its first turn: nothing was waited for
                    assert [f.source for f in answered.result()] == ["cached", "default"]
                assert ladder.counts.failures == {"StoreTimeoutError": 1, "resting": 200}
                shift = 31.0
                probed, rested = await climb(ladder, UA, AA)
                assert (probed.source, rested.source) == ("cached", "default")
                assert ladder.counts.failures == {"StoreTimeoutError": 2, "resting": 201}
                assert (ladder.counts.breaker.probes, ladder.counts.breaker.opens) == (1, 2)
            finally:
                os.kill(process, signal.SIGCONT)
            shift = 62.0
            ladder._budget_s = PATIENT
            [back] = await climb(ladder, UA)
            assert (back.values, back.source) == (ONLINE, "online")
            assert ladder.counts.breaker.state.phase == "closed"
            ladder.close()

        run(main())


def test_a_store_that_is_stopped_is_probed_and_found_again(
    run: Run, described: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        now = 0.0
        with redis_server.running(tmp_path) as url:
            store(url, "origin_load", "origin", "JFK", {"departures": double(31.0)})
            reader = RedisReader(url, described)
            ladder = Ladder(described, reader, budget_s=PATIENT, clock=lambda: now)
            [before] = await climb(ladder, UA)
            assert before.source == "online"
        for _ in range(100):
            [features] = await climb(ladder, UA)
            assert features.source == "cached"
            now += 0.05
        counts = ladder.counts
        # five in a row open it; after that only the probes ask, each after twice the time of the one before
        assert counts.failures["StoreLostError"] == BREAKER.failures + counts.breaker.probes
        assert 3 <= counts.breaker.probes <= 12
        assert counts.rows == {"online": 1, "cached": 100, "default": 0}
        ladder.close()

    run(main())
    assert len(said(capsys)) == 1


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another-protocol"),
        pytest.param(b"+OK\r\n+OK\r\n+OK\r\n", id="another-reply"),
        pytest.param(b"", id="hangs-up"),
    ],
)
def test_a_store_that_lies_is_left_alone(run: Run, described: Bundle, said: bytes) -> None:
    async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await command(reader)
        writer.write(said)
        await writer.drain()

    async def main() -> None:
        async with playing(lying) as url:
            ladder = Ladder(described, RedisReader(url, described), budget_s=PATIENT, clock=lambda: 0.0)
            for _ in range(50):
                features = await climb(ladder, UA, AA)
                assert [(f.values, f.source) for f in features] == [(DEFAULTS, "default")] * 2
            assert ladder.counts.breaker.opens == 1
            assert ladder.counts.failures["resting"] == 2 * (50 - BREAKER.failures)
            ladder.close()

    run(main())


def test_a_reader_that_cannot_even_begin_costs_its_features_and_no_request(
    run: Run, described: Bundle
) -> None:
    class Broken:
        def begin(self, rows: Any, nows: Any, budget_s: float, done: Any) -> None:
            raise RuntimeError("the handler is closed")

        def read(self, entities: Any, now: float) -> list[float]:
            raise AssertionError("a batch reader is asked for batches")

        async def warm(self) -> None:
            pass

    async def main() -> None:
        ladder = Ladder(described, Broken(), clock=lambda: 0.0)
        for _ in range(BREAKER.failures + 1):
            features = await climb(ladder, UA, AA)
            assert [(f.values, f.source) for f in features] == [(DEFAULTS, "default")] * 2
        assert ladder.counts.failures == {"RuntimeError": 2 * BREAKER.failures, "resting": 2}

    run(main())


def test_a_reader_that_can_only_be_waited_for_is_immediate(
    run: Run, described: Bundle, tmp_path: Path
) -> None:
    """Verify that a wrapper with `read` alone works wherever a batch reader does."""

    class Wrapped:
        def __init__(self, real: RedisReader | SqliteReader) -> None:
            self.real = real

        def read(self, entities: Any, now: float) -> list[float]:
            return [v * 60 for v in self.real.read(entities, now)]

    async def main() -> None:
        with redis_server.running(tmp_path) as url:
            store(url, "origin_load", "origin", "JFK", {"departures": double(31.0)})
            real = RedisReader(url, described, budget_s=PATIENT)
            ladder = Ladder(described, Wrapped(real))
            await ladder.warm()
            assert ladder.immediate
            [direct] = ladder.climb([UA], [NOW])
            [awaited] = await climb(ladder, UA)
            assert direct.values[2] == awaited.values[2] == 31.0 * 60
            ladder.close()
            real.close()

    run(main())
    assert Ladder(described, SqliteReader(str(tmp_path / "absent.db"), described)).immediate


def test_a_model_without_views_needs_no_store(run: Run, make_bundle: Callable[..., Bundle]) -> None:
    described = make_bundle(views=[], inputs=[{"name": "distance"}])

    async def main() -> None:
        ladder = ladder_of("redis://127.0.0.1:1/0", described)
        await ladder.warm()
        assert ladder.immediate
        assert await climb(ladder, {}) == [Features([], "online")]

    run(main())


def test_views_are_put_in_the_bundles_order_whatever_their_entities(
    run: Run, make_bundle: Callable[..., Bundle], redis_url: str
) -> None:
    """Verify the order with the views of two entities interleaved, all valid and one expired."""
    views = [
        {"name": name, "entity": entity, "ttl_seconds": ttl, "features": [f"{name}_0", f"{name}_1"]}
        for name, entity, ttl in (("a", "x", 100), ("b", "y", 100), ("c", "x", 0), ("d", "x", 100))
    ]
    described = make_bundle(views=views)
    for number, view in enumerate(views):
        raws = {f: double(10.0 * number + i) for i, f in enumerate(view["features"])}
        store(
            redis_url, str(view["name"]), str(view["entity"]), "k", raws, at=NOW - 100 * (view["name"] == "d")
        )

    async def main() -> None:
        ladder = ladder_of(redis_url, described)
        row = {"x": "k", "y": "k"}
        valid, expired = await ladder.climb_async([row, row], [NOW, NOW + 1])
        assert valid.values == [0.0, 1.0, 10.0, 11.0, 20.0, 21.0, 30.0, 31.0]
        assert expired.values == pytest.approx([0, 1, 10, 11, 20, 21, math.nan, math.nan], nan_ok=True)
        ladder.close()
        [kept] = await climb(ladder, row, deadline=time.monotonic() - 1)
        assert kept.source == "cached"
        assert kept.values == pytest.approx(expired.values, nan_ok=True)

    run(main())


def test_doubles_are_told_from_bytes_that_only_look_like_them(
    run: Run, described: Bundle, redis_url: str
) -> None:
    """Verify that values which together have the length of doubles are still read one by one."""
    short, long = b"\x12\x06abcdef", b"\x12\x08)bcdefgh"
    assert len(short + long) == 18
    store(redis_url, "carrier_delays", "carrier", "odd", {"delay_1h": short, "late_share": long})
    ten = struct.pack("<bq", 0x20, 5)[:2]  # an int64 of two bytes
    store(redis_url, "origin_load", "origin", "odd", {"departures": ten})

    async def main() -> None:
        ladder = ladder_of(redis_url, described)
        [text] = await climb(ladder, {"carrier": "odd", "origin": "JFK"})
        assert text.source == "default"
        [integer] = await climb(ladder, {"carrier": "none", "origin": "odd"})
        assert integer.values[2] == 5.0
        ladder.close()

    run(main())
