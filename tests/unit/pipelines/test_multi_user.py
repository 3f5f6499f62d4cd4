"""A multi-user deployment: namespaces, tokens, and a remedy for every way of mixing them up; answers page by page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kfp_server
import pytest
from kfp_server import KfpServer

from pipelines.submit_kfp import Address, KfpRuns
from windlass.errors import UsageError, WindlassError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with kfp_server.running() as made:
        yield made


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("ours\n")
    return path


@pytest.fixture
def shared(server: KfpServer) -> KfpServer:
    server.tokens = {"ours": {"team-a", "team-b"}, "theirs": {"team-c"}}
    return server


def test_runs_of_one_name_are_kept_apart_by_namespace(shared: KfpServer, token: Path) -> None:
    """Verify that each namespace has an experiment of its own, and a run of the other's name is not taken for ours."""
    first = KfpRuns(Address(shared.url, namespace="team-a", token_file=token))
    second = KfpRuns(Address(shared.url, namespace="team-b", token_file=token))
    assert [r.ensure("t1", {"workload": "flights"}).id for r in (first, second, first)] == ["r1", "r2", "r1"]
    assert {(e["display_name"], e["namespace"]) for e in shared.experiments} == {
        ("windlass-retrain", "team-a"), ("windlass-retrain", "team-b"),
    }  # fmt: skip
    assert second.find("t1") is None


@pytest.mark.parametrize(
    ("namespace", "written", "said"),
    [
        pytest.param("team-a", None, "answers 401 .*audience pipelines.kubeflow.org", id="no-token"),
        pytest.param("team-a", "old", "answers 401 .*--token-file", id="a-token-that-is-over"),
        pytest.param(None, "ours", "answers 400 .*multi-user one: name a namespace", id="no-namespace"),
        pytest.param(
            "team-c", "ours", "answers 403 .*kubeflow-edit in namespace 'team-c'", id="anothers-namespace"
        ),
    ],
)
def test_what_a_multi_user_deployment_refuses_has_a_remedy(
    shared: KfpServer, token: Path, namespace: str | None, written: str | None, said: str
) -> None:
    token.write_text(written or "none")
    runs = KfpRuns(Address(shared.url, namespace=namespace, token_file=token if written else None))
    with pytest.raises(WindlassError, match=said):
        runs.submit("t1", {"workload": "flights"})
    assert not shared.runs and not shared.experiments


def test_a_namespace_has_no_place_in_a_single_user_deployment(server: KfpServer) -> None:
    with pytest.raises(WindlassError, match=r"answers 400 .*leave 'team-a' out"):
        KfpRuns(Address(server.url, namespace="team-a")).submit("t1", {})


def test_a_token_file_that_is_empty_is_said_before_anything_is_asked(shared: KfpServer, token: Path) -> None:
    token.write_text("\n")
    with pytest.raises(WindlassError, match=r"token file .* is empty"):
        KfpRuns(Address(shared.url, namespace="team-a", token_file=token)).submit("t1", {})
    assert not shared.asked


def test_a_portal_that_asks_for_a_login_is_told_from_the_api(server: KfpServer) -> None:
    server.portal = True
    with pytest.raises(WindlassError, match="is no Kubeflow Pipelines API"):
        KfpRuns(Address(server.url)).submit("t1", {})


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match="is no address"):
        Address("ml-pipeline:8888")


@pytest.mark.parametrize("filters", [True, False])
def test_a_run_on_a_later_page_is_found(server: KfpServer, filters: bool) -> None:
    """Verify that a deployment which gives short pages, or knows no filter, does not make us create a run twice."""
    runs = KfpRuns(Address(server.url))
    for i in range(5):
        runs.submit(f"t{i}", {})
    server.most, server.filters = 2, filters
    assert KfpRuns(Address(server.url)).submit("t4", {}) == "r5"
    assert len(server.runs) == 5
    pages = [a.query.get("page_token") for a in server.asked if (a.method, a.path) == ("GET", "/runs")][-3:]
    assert pages == [None, "2", "4"] if not filters else pages[-1] is None


def test_waiting_goes_on_through_an_outage_and_ends_with_the_run(server: KfpServer) -> None:
    runs = KfpRuns(Address(server.url))
    runs.submit("t1", {})
    told: list[str] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] == 20.0:
            server.statuses = [503]
        if now[0] == 40.0:
            server.runs[0] |= {"state": "SUCCEEDED", "finished_at": "2026-01-01T00:01:00Z"}

    ended = runs.wait("t1", told.append, within_s=3600, clock=lambda: now[0], sleep=sleep)
    assert (ended.error, ended.seconds) == (None, 60.0)
    assert told[0] == told[2] == "run t1 goes on"
    assert "answers 503" in told[1] and len(told) == 3


def test_waiting_has_an_end(server: KfpServer) -> None:
    runs = KfpRuns(Address(server.url))
    runs.submit("t1", {})
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(WindlassError, match="has not ended within 60 s; it goes on"):
        runs.wait("t1", lambda _: None, within_s=60, clock=lambda: now[0], sleep=sleep)
