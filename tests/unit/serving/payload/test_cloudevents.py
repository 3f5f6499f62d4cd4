"""CloudEvents to a receiver that does not behave: bounded, counted, and nothing that a request would notice."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving.runtime.payload.cloudevents import CloudEventsWriter, Origin
from serving.runtime.payload.queue import RecordQueue
from serving.runtime.payload.receiver import ATTEMPTS, Receiver
from serving.runtime.payload.sink import open_sink
from tests.support import ports

ORIGIN = Origin(source="/pod/models/flights/versions/3", inference_service="flights")
Make = Callable[..., dict[str, Any]]
Wait = Callable[[Callable[[], bool]], None]


def log_to(url: str, *, batch: int = 0, most_bytes: int = 50_000, close_s: float = 60.0) -> RecordQueue:
    writer = CloudEventsWriter(urlsplit(url), ORIGIN, batch=batch)
    return RecordQueue(writer, most_bytes=most_bytes, close_s=close_s)


def ids(receiver: Any, kind: str) -> list[str]:
    return [m.headers["ce-id"] for m in receiver.accepted if m.headers["ce-type"].endswith(kind)]


def test_every_prediction_is_two_events_over_one_connection(receiver: Any, record: Make) -> None:
    """Verify order, pairs, and that the connection is kept."""
    log = log_to(receiver.url)
    log.append_many([record(i) for i in range(20)])
    log.close()
    expected = [f"r-{i}" for i in range(20)]
    assert ids(receiver, ".request") == ids(receiver, ".response") == expected
    assert (log.counts.written, log.counts.dropped, receiver.connections) == (20, 0, 1)


@pytest.mark.parametrize("batch", [0, 10])
def test_a_receiver_that_hangs_holds_no_request(receiver: Any, record: Make, batch: int) -> None:
    """Verify that thousands of records are taken or dropped while not one POST was answered."""
    receiver.hold.clear()
    log = log_to(receiver.url, batch=batch, close_s=0.1)
    for i in range(5000):
        log.append(record(i))
        assert log.counts.queued_bytes <= 50_000
    assert receiver.accepted == []
    assert log.counts.taken + log.counts.refused == 5000
    assert log.counts.refused > log.counts.taken > 0
    log.close()
    assert receiver.accepted == []
    assert log.counts.written == 0


def test_closing_does_not_wait_for_a_receiver_that_hangs(
    receiver: Any, record: Make, wait_until: Wait, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that it returns before anything was answered, and that what was left is counted in the end."""
    receiver.hold.clear()
    log = log_to(receiver.url, close_s=0.05)
    log.append_many([record(i) for i in range(20)])
    wait_until(lambda: receiver.asked == 1)
    log.close()
    assert receiver.accepted == []
    assert "bytes could not be written" in capsys.readouterr().err
    receiver.hold.set()
    wait_until(lambda: log.counts.queued_bytes == 0)
    assert log.counts.written + log.counts.failed == 20
    assert log.counts.failed >= 19
    assert len(receiver.accepted) <= 2


def test_a_slow_receiver_gets_what_it_can_take(receiver: Any, record: Make) -> None:
    """Verify that every record is delivered or counted as dropped, none twice."""
    receiver.delay_s = 0.002
    log = log_to(receiver.url, most_bytes=20_000)
    for i in range(2000):
        log.append(record(i))
    log.close()
    counts = log.counts
    assert counts.refused > 0
    assert counts.written + counts.dropped == 2000
    got = ids(receiver, ".response")
    assert len(got) == len(set(got)) == counts.written


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_failure_is_tried_again(receiver: Any, record: Make, status: int) -> None:
    """Verify that nothing is lost, and that nothing is sent out of turn."""
    receiver.statuses = [status, status, 202, status]
    log = log_to(receiver.url)
    log.append_many([record(1), record(2)])
    log.close()
    assert ids(receiver, ".request") == ids(receiver, ".response") == ["r-1", "r-2"]
    assert (log.counts.written, receiver.asked) == (2, 7)


def test_a_lasting_failure_is_dropped_counted_and_told_once(
    receiver: Any, record: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that retries end, and that a record whose first event failed sends no second one."""
    receiver.always = 500
    log = log_to(receiver.url)
    log.append_many([record(1), record(2)])
    log.close()
    assert (log.counts.written, log.counts.failed, receiver.asked) == (0, 2, 10)
    told = capsys.readouterr().err
    assert told.count("prediction log ") == 1
    assert (
        f"prediction log {receiver.url}: answered 500; dropping and counting its records (2 so far)" in told
    )


def test_a_refusal_is_not_tried_again(receiver: Any, record: Make) -> None:
    """Verify that a receiver that answers 400 is believed, and that the next record is sent."""
    receiver.statuses = [400]
    log = log_to(receiver.url)
    log.append_many([record(1), record(2)])
    log.close()
    assert ids(receiver, ".response") == ["r-2"]
    assert (log.counts.written, log.counts.failed, receiver.asked) == (1, 1, 3)


def test_waiting_for_an_answer_ends(receiver: Any, wait_until: Wait) -> None:
    """Verify that each try against a receiver that hangs runs out of time, and that tries are counted."""
    receiver.hold.clear()
    waiting = Receiver(urlsplit(receiver.url), timeout_s=0.02)
    assert waiting.post({}, b"{}", threading.Event()) == "timed out"
    # the last try's time may be over before the receiver's thread has looked at it
    wait_until(lambda: receiver.asked == ATTEMPTS)
    waiting.close()


def test_connections_that_are_reset_are_opened_again(receiver: Any, record: Make, wait_until: Wait) -> None:
    """Verify that a record under way when the receiver resets reaches it later."""
    receiver.reset = True
    log = log_to(receiver.url)
    log.append(record(1))
    wait_until(lambda: receiver.asked >= 2)
    receiver.reset = False
    log.close()
    assert ids(receiver, ".response") == ["r-1"]
    assert (log.counts.written, log.counts.dropped) == (1, 0)


def test_a_receiver_that_is_down_loses_what_it_missed_and_no_more(
    record: Make, receiver_at: Callable[[int], Any], wait_until: Wait
) -> None:
    """Verify that records are dropped and counted while nobody listens, and delivered once somebody does."""
    with ports.hold() as kept:
        port = kept.getsockname()[1]
        log = log_to(f"http://127.0.0.1:{port}/events")
        log.append(record(1))
        wait_until(lambda: log.counts.failed == 1)
        receiver = receiver_at(port)
        log.append(record(2))
        log.close()
    assert ids(receiver, ".request") == ids(receiver, ".response") == ["r-2"]
    assert (log.counts.written, log.counts.failed) == (1, 1)


def test_batches_hold_no_more_events_than_the_receiver_asked_for(receiver: Any, record: Make) -> None:
    """Verify that an odd number of events a batch never splits a prediction."""
    log = open_sink(f"{receiver.url}#batch=7", model="flights", version="3")
    log.append_many([record(i) for i in range(10)])
    log.close()
    sizes = [len(json.loads(message.body)) for message in receiver.accepted]
    assert sizes == [6, 6, 6, 2]
    assert log.counts.written == 10


def test_a_failed_batch_is_dropped_whole(receiver: Any, record: Make) -> None:
    """Verify that the others arrive, and that counts are of records and not of events."""
    receiver.statuses = [202, 413]
    log = log_to(receiver.url, batch=4)
    log.append_many([record(i) for i in range(6)])
    log.close()
    arrived = [event["id"] for message in receiver.accepted for event in json.loads(message.body)]
    assert arrived == ["r-0", "r-0", "r-1", "r-1", "r-4", "r-4", "r-5", "r-5"]
    assert (log.counts.written, log.counts.failed) == (4, 2)
