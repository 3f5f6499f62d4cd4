"""The collector as a process: what it acknowledged is on the disk, what it refuses it explains."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.collector.feedback_log import FeedbackLog
from monitoring.labels import LabelTail


class Collector:
    def __init__(self, home: Path, port: int | None = None, **options: Any) -> None:
        self.home = home
        for _ in range(3):  # a free port may be taken by somebody else before the collector listens
            self.port = port or _free_port()
            command = [
                sys.executable,
                "-m",
                "monitoring.collector",
                "--port",
                str(self.port),
                "--home",
                str(home),
            ]
            self.process = subprocess.Popen(command, stderr=subprocess.PIPE, **options)
            deadline = time.monotonic() + 120
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    self.get("/health")
                    return
                except OSError:
                    time.sleep(0.02)
            self.process.kill()
        raise AssertionError(f"the collector did not start: {self.process.communicate()[1].decode()}")

    def get(self, path: str) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()

    def post(self, content: Any, path: str = "/feedback") -> tuple[int, Any]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def stored(self) -> list[tuple[str, int]]:
        return [
            (label.request_id, label.label)
            for label in LabelTail(self.home / "logs" / "feedback.jsonl").poll()
        ]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=120)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    started = Collector(tmp_path)
    yield started
    started.stop()


def test_feedback_is_stored_one_by_one_and_in_lists(collector: Collector) -> None:
    assert collector.post({"request_id": "a", "label": 1}) == (200, {"accepted": 1})
    assert collector.post(
        [{"request_id": "b", "label": 0, "at": 7.5}, {"request_id": "c", "label": True}]
    ) == (200, {"accepted": 2})
    assert collector.post([]) == (200, {"accepted": 0})
    assert collector.stored() == [("a", 1), ("b", 0), ("c", 1)]
    _, metrics = collector.get("/metrics")
    assert 'windlass_collector_events_total{type="label"} 3.0' in metrics


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"{", "not JSON", id="no-json"),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"7", "the body is 7", id="no-object"),
        pytest.param(b'{"request_id":"a"}', "'label' is missing", id="no-label"),
        pytest.param(
            b'[{"request_id":"a","label":1},{"request_id":"b","label":3}]',
            "'[1].label' is 3",
            id="one-of-a-list",
        ),
        pytest.param(b'[{"request_id":"a","label":1},5]', "[1] is 5", id="no-object-in-a-list"),
    ],
)
def test_wrong_feedback_is_refused_whole_with_the_name_of_the_field(
    collector: Collector, body: bytes, said: str
) -> None:
    status, answer = collector.post(body)
    assert status == 400
    assert said in answer["error"]
    assert collector.stored() == []
    assert 'windlass_collector_refused_total{reason="invalid"} 1.0' in collector.get("/metrics")[1]


def test_unknown_paths_and_methods_are_named(collector: Collector) -> None:
    assert collector.post({}, "/nothing")[0] == 404
    status, answer = collector.post({}, "/health")
    assert (status, "takes GET" in answer["error"]) == (405, True)
    with pytest.raises(urllib.error.HTTPError) as refused:
        collector.get("/feedback")
    assert (refused.value.code, refused.value.headers["allow"]) == (405, "POST")


def test_the_report_is_served_once_there_is_one(collector: Collector) -> None:
    assert "No report yet" in collector.get("/report")[1]
    (collector.home / "report.html").write_text("<h1>what happened</h1>")
    assert collector.get("/report")[1] == "<h1>what happened</h1>"


def test_one_connection_takes_many_requests_sent_ahead_of_their_answers(collector: Collector) -> None:
    body = b'{"request_id":"p","label":1}'
    request = b"POST /feedback HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    last = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", collector.port), timeout=10) as connection:
        connection.sendall(request * 20 + last)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.count(b'{"accepted":1}') == 20
    assert received.endswith(b'{"status":"ok"}')


def test_a_client_that_sends_far_ahead_of_its_answers_is_slowed_and_answered(collector: Collector) -> None:
    body = b'{"request_id":"p","label":1}'
    request = b"POST /feedback HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    last = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", collector.port), timeout=60) as connection:
        sender = threading.Thread(target=connection.sendall, args=(request * 400 + last,))
        sender.start()
        received = b""
        while part := connection.recv(65536):
            received += part
        sender.join(30)
    assert received.count(b'{"accepted":1}') == 400
    assert received.endswith(b'{"status":"ok"}')


def test_a_body_that_is_too_large_and_a_request_that_is_none_are_answered(collector: Collector) -> None:
    for sent, status in (
        (
            b"POST /feedback HTTP/1.1\r\nhost: x\r\ncontent-length: 90000000\r\n\r\n" + b"x" * 8_500_000,
            b"413",
        ),
        (b"nonsense\r\n\r\n", b"400"),
    ):
        with socket.create_connection(("127.0.0.1", collector.port), timeout=10) as connection:
            connection.sendall(sent)
            assert connection.recv(4096).startswith(b"HTTP/1.1 " + status)
    assert collector.post({"request_id": "a", "label": 1})[0] == 200


def test_nothing_acknowledged_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for life in range(3):
        collector = Collector(tmp_path)

        def send(collector: Collector = collector, life: int = life) -> None:
            for n in range(10_000):
                name = f"{life}-{n}"
                try:
                    if collector.post({"request_id": name, "label": 1})[0] == 200:
                        acknowledged.append(name)
                except OSError:
                    return

        sender = threading.Thread(target=send)
        sender.start()
        known = len(acknowledged)
        deadline = time.monotonic() + 120
        while len(acknowledged) < known + 40 and time.monotonic() < deadline:
            time.sleep(0.005)
        collector.process.send_signal(signal.SIGKILL)
        sender.join(30)
        collector.stop()
    stored = [name for name, _ in collector.stored()]
    assert len(acknowledged) >= 120
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))


def test_sigterm_ends_it_and_keeps_what_it_has(collector: Collector) -> None:
    collector.post({"request_id": "a", "label": 1})
    collector.process.send_signal(signal.SIGTERM)
    assert collector.process.wait(120) == 0
    assert collector.stored() == [("a", 1)]


def test_a_full_disk_stops_acknowledgements_and_keeps_whole_lines(tmp_path: Path) -> None:
    def small_files() -> None:
        signal.signal(
            signal.SIGXFSZ, signal.SIG_IGN
        )  # the write fails, as on a full disk, instead of killing us
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    collector = Collector(tmp_path, preexec_fn=small_files)
    try:
        answers = [
            collector.post({"request_id": f"request-{n:04d}", "label": 1, "at": 1.0}) for n in range(40)
        ]
        accepted = sum(status == 200 for status, _ in answers)
        assert 0 < accepted < 40
        assert answers[-1][0] == 507
        assert "nothing of this request was kept" in answers[-1][1]["error"]
        assert len(collector.stored()) == accepted
        assert (tmp_path / "logs" / "feedback.jsonl").read_bytes().endswith(b"\n")
    finally:
        collector.stop()


def test_a_taken_port_is_an_error_of_one_line(collector: Collector, tmp_path: Path) -> None:
    second = Collector.__new__(Collector)
    second.process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "monitoring.collector",
            "--port",
            str(collector.port),
            "--home",
            str(tmp_path / "other"),
        ],
        stderr=subprocess.PIPE,
    )
    _, error = second.process.communicate(timeout=120)
    assert second.process.returncode == 1
    assert f"port {collector.port}" in error.decode() and "Traceback" not in error.decode()


def test_a_torn_last_line_is_cut_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    whole = b'{"request_id":"a","label":1,"at":1.0}\n'
    path.write_bytes(whole + b'{"request_id":"b","la')
    log = FeedbackLog(path)
    log.write(b'{"request_id":"c","label":0,"at":2.0}\n')
    log.close()
    assert [label.request_id for label in LabelTail(path).poll()] == ["a", "c"]
    os.truncate(path, 10)
    FeedbackLog(path).close()
    assert path.read_bytes() == b""
