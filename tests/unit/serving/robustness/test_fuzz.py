"""Mutated requests: a few thousand of those that `python -m benchmarks.serving.fuzz` sends by the hundred thousand."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from benchmarks.serving import fuzz, fuzz_grpc, fuzz_oracle, fuzz_subject
from benchmarks.serving.fuzz_case import Case, Expected, encoded, one
from benchmarks.serving.fuzz_client import Connection, exchange
from benchmarks.serving.fuzz_documents import plain_v2, rows_of

REQUESTS = 3000
SEED = 7


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fuzz_subject.Target]:
    running = fuzz_subject.start_all(tmp_path_factory.mktemp("fuzz"))
    yield running
    running.child.stop()


def test_every_mutation_gets_what_it_deserves(target: fuzz_subject.Target) -> None:
    """Verify that mutated requests are refused by name or answered, that others notice nothing, and nothing is kept."""
    report = fuzz.run(target, REQUESTS, SEED)
    assert report.violations == []
    assert report.requests == REQUESTS
    assert {*fuzz.HTTP, *fuzz_grpc.MUTATIONS} <= set(report.counts)
    assert "Traceback" not in target.child.log.read_text()


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        pytest.param(Expected(frozenset((400,))), "expected [400]", id="status"),
        pytest.param(Expected(frozenset((200,)), scores=[0.5]), "scores", id="scores"),
        pytest.param(Expected(frozenset((200,)), closes=True), "stays open", id="connection"),
    ],
)
def test_a_wrong_answer_is_a_violation(
    target: fuzz_subject.Target, expected: Expected, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that the fuzzer finds fault with an answer that is not the one it expects."""
    # for a connection that should end and stays, and long enough for an answer of a busy machine
    monkeypatch.setattr("benchmarks.serving.fuzz_client.PATIENCE_S", 3.0)
    case = one("/v2/models/plain/infer", encoded(plain_v2(rows_of(Random(0), 1))), expected)
    _, problems = exchange(Connection(target.port), case)
    assert any(problem in p for p in problems)


def test_a_refusal_must_name_the_field(target: fuzz_subject.Target) -> None:
    """Verify that a refusal which names something else than what is wrong is a violation."""
    case = one("/v2/models/plain/infer", b'{"inputs": 3}', Expected(frozenset((400,)), ("outputs",)))
    _, problems = exchange(Connection(target.port), case)
    assert problems == ["""'inputs: got 3, expected a list of tensors' does not name 'outputs'"""]


@pytest.mark.parametrize(
    ("old", "new", "statuses"),
    [
        pytest.param(b"", b"", {200}, id="as-it-was"),
        pytest.param(b'"FP32"', b'"FP31"', {400}, id="datatype"),
        pytest.param(b'"data":[', b'"data":[[', {400}, id="no-json"),
        pytest.param(b'"data":[', b'"data":[null,', {400}, id="one-too-many"),
        pytest.param(b'"inputs"', b'"input "', {400}, id="key"),
        pytest.param(b'{"inputs"', b'{"x":1,"inputs"', {200}, id="more"),
    ],
)
def test_the_second_reading_of_a_request(old: bytes, new: bytes, statuses: set[int]) -> None:
    """Verify that the oracle of damaged bodies tells which of them are still requests."""
    body = encoded(plain_v2(rows_of(Random(1), 1)))
    assert fuzz_oracle.judge(body.replace(old, new, 1)).statuses == statuses


def test_the_same_seed_gives_the_same_requests() -> None:
    """Verify that a violation can be had again by its seed."""

    def cases() -> list[Case]:
        return [mutation(Random(f"3/{name}")) for name, mutation in fuzz.HTTP.items()]

    assert cases() == cases()
