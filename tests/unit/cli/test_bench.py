"""`windlass bench`: how a benchmark is found and run, and how it judges what it measured."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.serving import overload, plots, report, subject
from benchmarks.serving.client import Connection
from benchmarks.serving.results import Load, Results, Sample
from benchmarks.serving.targets import TARGETS, Target, figure

PROJECT = Path(__file__).parent.parent.parent.parent
CONTENDERS = PROJECT / "benchmarks" / "serving" / "contenders"
LOCKS = sorted(CONTENDERS.glob("*/requirements.lock"))
ONE = Load(1, 16)


def windlass(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "windlass", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def sample(**values: float) -> Sample:
    stated: dict[str, float] = {"rate": 1.0, "p50_ms": 1.0, "p99_ms": 1.0, "cpu_s": 1.0, "failed": 0}
    return Sample(**(stated | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("nothing",), r"unknown benchmark 'nothing'.*: .*release, serving", id="benchmark"),
        pytest.param(
            ("serving", "--contenders", "nobody"), "no contender 'nobody'.*windlass, kserve", id="contender"
        ),
        pytest.param(("serving", "--only", "nowhere"), "no part 'nowhere'; there are: rest, grpc", id="part"),
    ],
)
def test_an_unknown_name_lists_those_that_exist(arguments: tuple[str, ...], said: str) -> None:
    """Verify exit code 2 and one JSON object, whether the command or the benchmark refuses."""
    done = windlass("bench", *arguments, "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["exit_code"]) == (2, 2)
    assert re.search(said, error["message"])


@pytest.mark.parametrize("name", sorted(p.parent.name for p in PROJECT.glob("benchmarks/*/__main__.py")))
def test_each_benchmark_starts_outside_of_a_test(name: str) -> None:
    """Verify that none needs what only pytest puts on the path."""
    ended = windlass("bench", name, "--help")
    assert ended.returncode == 0, ended.stderr
    assert "--json" in ended.stdout


def test_options_and_the_exit_code_pass_through(tmp_path: Path) -> None:
    """Verify that a benchmark of a project gets what stands behind its name, and that its code comes back."""
    folder = tmp_path / "benchmarks" / "own"
    folder.mkdir(parents=True)
    (folder / "__main__.py").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    done = subprocess.run(
        [sys.executable, "-m", "windlass", "bench", "own", "--deep", "3", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "['--deep', '3', '--json']\n")


def test_a_ratio_is_taken_within_each_round() -> None:
    """Verify that a round in which the machine was slow for both sides does not move the ratio."""
    results = Results()
    for number, slowness in enumerate((1.0, 40.0, 3.0)):
        results.add("ours", ONE, number, sample(cpu_s=1.0 * slowness))
        results.add("theirs", ONE, number, sample(cpu_s=2.0 * slowness))
    results.add("theirs", ONE, 3, sample(cpu_s=100.0))  # a round that ours is missing from
    assert results.ratio("cpu_s", ("ours", ONE), ("theirs", ONE)) == 0.5
    assert results.ratio("cpu_s", ("ours", ONE), ("nobody", ONE)) is None


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        pytest.param(4.9, True, id="met"),
        pytest.param(5.0, False, id="missed"),
        pytest.param(None, None, id="not-measured"),
    ],
)
def test_a_target_is_met_missed_or_open(value: float | None, holds: bool | None) -> None:
    """Verify that what was not measured is no success and no failure."""
    results = Results()
    if value is not None:
        results.note("p99", "store", [value], "ms")
    judged = Target("p99 of the store", "<", 5.0, figure("store: p99")).judge(results)
    assert (judged["value"], judged["holds"]) == (value, holds)


def test_every_target_is_in_the_report_and_in_the_table() -> None:
    """Verify that a run of one part still lists what it did not measure."""
    results = Results()
    results.add("Windlass V2", ONE, 0, sample(cpu_s=0.05))
    results.add("minimal ASGI app", ONE, 0, sample(cpu_s=0.1))
    results.not_run["ray"] = "no package"
    found = report.document(results)
    assert [target["name"] for target in found["targets"]] == [target.name for target in TARGETS]
    held = {target["name"]: target["holds"] for target in found["targets"]}
    assert held["CPU of one row, ours / minimal ASGI app"] is True
    assert held["CPU of one row, ours / KServe V2"] is None
    text = report.table(found)
    assert "not run: ray: no package" in text
    assert text.index("Windlass V2") < text.index("minimal ASGI app"), "the cheapest comes first"


def test_the_goodput_that_refusals_allow() -> None:
    """Verify f and the bound on a server whose refusals cost a quarter of its answers, all its time spent."""
    rate, answer_s, f, seconds = 1000.0, 0.001, 0.25, 10.0
    good = (1 - 2 * f) / (1 - f)
    answers, refusals = round(good * rate * seconds), round((2 - good) * rate * seconds)
    spent = (answers + refusals * f) * answer_s
    assert spent == pytest.approx(seconds, rel=1e-3), "a server on one core has no more than that"
    latency = {"200": {"p99": 40.0}, "503": {"p99": 10.0}}
    counts = {"200": answers, "503": refusals}
    under = {
        "sent": answers + refusals, "seconds": seconds, "statuses": counts, "answers": counts,
        "latency_ms": latency, "latency_from_sending_ms": latency,
    }  # fmt: skip
    found = overload.judge(rate, answer_s, spent, under)
    assert found["cost of a refusal of an answer's"] == pytest.approx(f, rel=1e-3)
    assert found["goodput of the peak"] == pytest.approx(found["goodput that refusals allow"], rel=1e-3)
    assert found["503 p99 of answer p99"] == 0.25


class Asking:
    """Sends one request at a time until `left` are answered."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.seen: list[tuple[int, bytes]] = []
        self.done = asyncio.get_running_loop().create_future()

    def opened(self, connection: Connection) -> None:
        connection.send(b"x", 0.0, time.perf_counter())

    def answered(self, connection: Connection, status: int, sent: float, now: float) -> None:
        assert 0 < sent <= now
        self.seen.append((status, connection.body()))
        if len(self.seen) < self.left:
            connection.send(b"x", 0.0, now)
        else:
            self.done.set_result(None)
            connection.transport.close()

    def lost(self, connection: Connection) -> None:
        if not self.done.done():
            self.done.set_exception(AssertionError("the connection was closed"))


def test_the_client_reads_what_the_contenders_send() -> None:
    """Verify heads in both spellings, chunks, and answers that arrive in pieces, over a real connection."""
    answers = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\n\r\nsecond",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nthird,\r\na\r\n in chunks\r\n0\r\n\r\n",
    ]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readexactly(1)
            for byte in answer:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
        await reader.read()
        writer.close()

    async def ask() -> list[tuple[int, bytes]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        asking = Asking(len(answers))
        port = server.sockets[0].getsockname()[1]
        await asyncio.get_running_loop().create_connection(lambda: Connection(asking), "127.0.0.1", port)
        await asyncio.wait_for(asking.done, 30)
        server.close()
        return asking.seen

    assert asyncio.run(ask()) == [(200, b"first"), (503, b"second"), (200, b"third, in chunks")]


def test_the_slow_model_gives_the_scores_of_the_fast_one(tmp_path: Path) -> None:
    """Verify that repeating the trees changes what a row costs and not what it scores."""
    import numpy as np
    import onnx

    from components import export

    (tmp_path / "model").mkdir()
    served = subject.make(tmp_path / "model")
    rows = np.load(served.rows)
    assert np.abs(export.score(export.load(served.onnx), rows) - served.scores).max() < 1e-5
    slow = tmp_path / "slow.onnx"
    onnx.save(subject.repeated(onnx.load(str(served.onnx)), 5), str(slow))
    assert np.abs(export.score(export.load(slow), rows) - served.scores).max() < 1e-4
    assert slow.stat().st_size > 4 * served.onnx.stat().st_size


def test_the_pictures_name_everybody(tmp_path: Path) -> None:
    """Verify that each contender stands in each picture, and that PNG and SVG are both written."""
    results = Results()
    for number in range(3):
        for place, name in enumerate(("Windlass V2", "KServe V2", "minimal ASGI app")):
            for load in (Load(1, 1), ONE):
                results.add(name, load, number, sample(cpu_s=0.01 * (place + 1) * (number + 1)))
    plots.write(report.document(results), tmp_path)
    for stem in ("serving-cpu", "serving-latency"):
        assert (tmp_path / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        text = (tmp_path / f"{stem}.svg").read_text()
        assert all(name in text for name in ("Windlass V2", "KServe V2", "minimal ASGI app"))


def test_each_contender_has_a_lock() -> None:
    """Verify that no environment is resolved when the benchmark runs."""
    assert {lock.parent.name for lock in LOCKS} == {path.parent.name for path in CONTENDERS.glob("*/*.in")}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.parent.name)
def test_a_contenders_lock_holds_hashes_and_no_address(lock: Path) -> None:
    """Verify that what is installed is what was locked, from whatever index the reader has."""
    text = lock.read_text()
    assert re.findall(r"https?://|--index|--find-links|file:", text) == []
    packages = re.findall(
        r"^[A-Za-z0-9._-]+==[^ ;\n]+.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", text, re.MULTILINE
    )
    assert len(packages) == len(re.findall(r"^[A-Za-z0-9._-]+==", text, re.MULTILINE)) > 0
