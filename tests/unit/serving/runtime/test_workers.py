"""Several processes behind one port, as a process of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

ROWS = [
    ("carrier_delays", "carrier", "UA", {"delay_1h": 11.5, "late_share": 0.4}),
    ("origin_load", "origin", "JFK", {"departures": 31.0}),
]
INSTANCE = {"carrier": "UA", "origin": "JFK", "distance": 1400}
VECTOR = [11.5, 0.4, 31.0, 1400.0, 2.0]
WRAPPED = Path(__file__).with_name("wrapped_server.py")


def answered(client: httpx.Client, server: Any) -> float:
    """Predictions that the metrics of all workers add up to."""
    page = client.get(f"http://127.0.0.1:{server.port}/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(page)}
    samples = families["windlass_predictions"].samples if "windlass_predictions" in families else []
    return sum(s.value for s in samples)


def left(server: Any) -> float:
    """Predictions that the workers have left for the others to find."""
    places = [*Path("/dev/shm").glob("windlass-*"), *Path(tempfile.gettempdir()).glob("windlass-*")]  # noqa: S108 - only looked at
    found = [p / f"{pid}.json" for p in places for pid in workers_of(server)]
    counts = [json.loads(f.read_bytes()).get("windlass_predictions_total", {}) for f in found if f.exists()]
    return sum(value for samples in counts for value in samples.values())


def workers_of(server: Any) -> set[int]:
    return {p.pid for p in psutil.Process(server.process.pid).children()}


@pytest.fixture
def crew(make_bundle: Callable[..., Path], online_db: Callable[..., Path], start: Callable[..., Any]) -> Any:
    return start(make_bundle(), f"sqlite:{online_db(ROWS)}", "--workers", "2")


def test_workers_answer_alike_and_count_together(
    crew: Any, score: Callable[..., float], wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: len(workers_of(crew)) == 2)
    for _ in range(40):  # a connection each: the kernel spreads them
        assert crew.predict(INSTANCE).json()["predictions"] == pytest.approx([score(VECTOR)], rel=1e-5)
        crew.client.close()
        crew.client = httpx.Client(base_url=f"http://127.0.0.1:{crew.port}", timeout=30)
    assert len(crew.records(40)) == 40
    with httpx.Client(timeout=30) as client:
        wait_until(lambda: answered(client, crew) == 40)


def test_a_worker_that_dies_is_replaced_and_its_counts_are_kept(
    crew: Any, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: len(workers_of(crew)) == 2)
    assert crew.predict(INSTANCE).status_code == 200
    # a worker leaves what it counted once a second: what it counted since is lost with it
    wait_until(lambda: left(crew) == 1)
    before = workers_of(crew)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(workers_of(crew) - before) == 2)
    crew.client = httpx.Client(
        base_url=f"http://127.0.0.1:{crew.port}",
        timeout=30,
        transport=httpx.HTTPTransport(retries=10),  # of the connection, until the new ones listen
    )
    assert crew.predict(INSTANCE).status_code == 200
    with httpx.Client(timeout=30, transport=httpx.HTTPTransport(retries=10)) as client:
        wait_until(lambda: answered(client, crew) == 2)


def test_sigterm_drains_all_of_them(
    make_bundle: Callable[..., Path],
    online_db: Callable[..., Path],
    start: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    # long enough to say goodbye to a client that a busy machine holds up
    options = ("--workers", "2", "--linger", "2")
    crew = start(make_bundle(), f"sqlite:{online_db(ROWS)}", *options, script=WRAPPED)
    wait_until(lambda: len(workers_of(crew)) == 2)
    failures: list[object] = []

    def ask() -> None:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{crew.port}", timeout=30) as client:
                while True:
                    answer = client.post("/v1/models/flights:predict", json={"instances": [INSTANCE]})
                    if answer.status_code != 200:
                        failures.append(answer.text)
                    if answer.headers.get("connection") == "close":
                        return
        except Exception as problem:
            failures.append(problem)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    crew.records(20)
    crew.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert crew.process.wait(30) == 0
    assert crew.stop() == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        pytest.param(["--workers", "0"], "--workers is 0; give 1 to", id="none"),
        pytest.param(["--workers", "2", "--repository", "."], "give --workers 1", id="repository"),
        pytest.param(["--workers", "2", "--grpc-port", "0"], "all of them need the same port", id="grpc"),
    ],
)
def test_what_workers_cannot_do_is_said(
    make_bundle: Callable[..., Path], extra: list[str], message: str
) -> None:
    command = [sys.executable, "-m", "serving.runtime", "--bundle", str(make_bundle()), "--port", "0", *extra]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert message in done.stderr
