"""A process that may not see what it is to watch says so."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from kubernetes_server import Asked, KubernetesServer
from kubernetes_wire import Wire

from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import HTTP_ROUTE, RELEASE
from windlass.operator.reconciler import Watched
from windlass.operator.sight import LOG, Sight

WATCHED = (Watched(RELEASE), Watched(HTTP_ROUTE, "a=b", required=False))


def sight(state: KubernetesServer, fate: str = "through") -> Sight:
    api = KubernetesApi(Wire(state, lambda asked: fate), sleep=lambda s: None)
    return Sight(api, ("team", "other"), blind_every_s=0.01, seeing_every_s=0.01)


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What it said; a thread that another test left may say something meanwhile."""
    return [record for record in caplog.records if record.name == LOG.name]


def forbids(plural: str, namespace: str) -> KubernetesServer:
    state = KubernetesServer()

    def forbidden(asked: Asked) -> str | None:
        return "forbidden" if asked.path.endswith(f"/{namespace}/{plural}") else None

    state.forbids = forbidden
    return state


def test_a_right_that_is_missing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Verify that it is in the log and in /readyz, and gone from both when the Role has it."""
    state = forbids("releases", "other")
    found = sight(state)
    for _ in range(3):
        assert not found.look(WATCHED)
    assert "forbidden" in (found.fault() or "")
    assert [r.levelno for r in lines(caplog)] == [logging.ERROR] and "other" in caplog.text
    state.forbids = lambda asked: None
    assert found.look(WATCHED) and found.fault() is None


def test_a_kind_that_is_missing_is_waited_for() -> None:
    """Verify that watching begins once the CRD is there: whoever watches looks for it once."""
    state = KubernetesServer()
    state.dropped.add("releases")
    found, seen = sight(state), threading.Event()

    def wait() -> None:
        found.wait(WATCHED, threading.Event())
        seen.set()

    threading.Thread(target=wait, daemon=True).start()
    deadline = time.monotonic() + 60.0
    while found.fault() is None:
        assert time.monotonic() < deadline, "it has not looked"
        time.sleep(0.01)
    assert not seen.wait(0.2) and found.fault() is not None
    state.dropped.clear()
    assert seen.wait(60.0) and found.fault() is None


def test_what_is_not_required_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Verify that a cluster without the Gateway API is worth a line and no more."""
    found = sight(forbids("httproutes", "team"))
    assert found.look(WATCHED) and found.look(WATCHED) and found.fault() is None
    assert [r.levelno for r in lines(caplog)] == [logging.WARNING]


def test_an_api_server_that_is_down_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Verify that nothing is believed to be seen while nobody answers: said once, and nothing is said to be missing."""
    found = sight(KubernetesServer(), "lost")
    for _ in range(2):
        assert not found.look(WATCHED) and found.fault() is None
    (line,) = lines(caplog)
    assert (
        line.levelno == logging.WARNING and "team/releases, other/releases, team/httproutes" in line.message
    )


def test_an_optional_kind_that_nobody_serves_blinds_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Verify that an answer 5xx for routes alone, as of a conversion webhook that is down, is said and goes by."""

    def fate(asked: Asked) -> str:
        return "lost" if asked.path.endswith("/httproutes") else "through"

    found = Sight(KubernetesApi(Wire(KubernetesServer(), fate), sleep=lambda s: None), ("team",))
    assert found.look(WATCHED) and found.look(WATCHED) and found.fault() is None
    (line,) = lines(caplog)
    assert "team/httproutes: nobody says" in line.message
