"""Journals on a real API server: what a test's own server cannot vouch for."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.release import spec
from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import journal_parts
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import RELEASE_JOURNAL
from serving.release.cluster.store import ClusterStore, OvertakenError
from serving.release.journal import replay
from serving.release.journal.store import Entry, Store
from serving.release.simulation import crashes
from serving.release.simulation.boundaries import Boundaries
from serving.release.simulation.crashes import BoundedStore
from serving.release.simulation.leadership import Lease
from serving.release.simulation.world import Behaviour
from tests.cluster.api_server import ApiServer, established
from tests.cluster.operator_stage import eventually
from tests.cluster.tools.build import BUILD_S

pytestmark = pytest.mark.timeout(2 * BUILD_S)

NAMESPACE = "journals"
CRDS = Path(__file__).parents[2] / "manifests" / "crds"
BEGIN = {"kind": "release", "champion": "12"}


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    api_server.kubectl("create", "namespace", NAMESPACE)
    return api_server


@pytest.fixture
def api(server: ApiServer) -> KubernetesApi:
    return KubernetesApi.connect(server.kubeconfig)


def decision(seq: int, **more: Any) -> dict[str, Any]:
    return {"kind": "decision", "seq": seq, **more}


def test_records_of_any_size_come_back(api: KubernetesApi) -> None:
    """Verify that a record larger than any request may be, and objects that were filled and packed, are read again."""
    entry = Entry("sizes", 1, "sizes-1")
    noise = random.Random(1)
    written = [BEGIN, decision(1, values="".join(noise.choices('ab"\\\n\u00e9', k=1_000_000)))]
    written += [decision(seq, why="as before " * 300, value=noise.random()) for seq in range(2, 60)]
    store = ClusterStore(api, NAMESPACE, "a")
    for record in written:
        store.append(entry, record)
    assert len(str(written[1])) > 1_200_000
    assert list(ClusterStore(api, NAMESPACE, "b").records(entry)) == written
    parts = [p for p in api.all(RELEASE_JOURNAL, NAMESPACE).items if p["spec"]["model"] == "sizes"]
    assert len(parts) > 8 and [p["spec"]["full"] for p in parts] == [True] * (len(parts) - 1) + [False]
    sizes = [sum(map(len, p["spec"]["records"])) for p in parts]
    assert max(sizes) <= journal_parts.PART + journal_parts.PIECE


def test_who_was_replaced_conflicts(api: KubernetesApi) -> None:
    """Verify the API server's own answer to the old leader: in the same object, in the next one, in a new release."""
    entry = Entry("leaders", 1, "leaders-1")
    old, new = ClusterStore(api, NAMESPACE, "old"), ClusterStore(api, NAMESPACE, "new")
    old.append(entry, BEGIN)
    assert new.entries("leaders") == [entry]
    for record in (decision(1), decision(1, why="x" * journal_parts.PART)):
        with pytest.raises(OvertakenError, match=r"new .* writes it"):
            old.append(entry, record)
    with pytest.raises(OvertakenError, match=r"new .* writes it"):
        old.append(Entry("leaders", 2, "leaders-2"), BEGIN)
    new.append(entry, decision(1))
    # the successor's object is full, and what the old one would put where its next record goes does not fit
    new.append(entry, decision(2, why="x" * journal_parts.PART))
    with pytest.raises(OvertakenError, match=r"new .* writes it"):
        old.append(entry, decision(1))
    records = list(ClusterStore(api, NAMESPACE, None).records(entry))
    assert [record.get("seq") for record in records] == [None, 1, 2]


def test_a_name_that_no_object_takes_is_refused(api: KubernetesApi) -> None:
    """Verify that the API server's words are handed on where a model cannot be called so on a cluster."""
    with pytest.raises(RejectedError, match=r"Invalid value: \"Flights\.000001\""):
        ClusterStore(api, NAMESPACE, "a").append(Entry("Flights", 1, "r"), BEGIN)


def test_crashes_change_nothing(server: ApiServer, api: KubernetesApi) -> None:
    """Verify at some boundaries of a release, both sides, what the local tests verify at all of them."""
    errors = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy"}
    strategy = {"type": "canary", "steps": [{"weight": 50, "minSamples": 100}]}
    checks = [{**errors, "relativeToChampion": True}]
    content = {"model": "flights", "candidate": "13", "strategy": strategy, "checks": checks}
    release = spec.parse({"kind": "Release", "metadata": {"name": "flights-13"}, "spec": content})
    script = crashes.write(release, {"12": Behaviour(), "13": Behaviour()}, {-1: "rollback"})
    calm = crashes.play(script, crashes.in_memory())
    for call in range(2, len(calm.calls) + 1, 6):
        for side in ("before", "after"):
            namespace = f"crash-{call}-{side}"
            server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})

            def stores(boundaries: Boundaries, lease: Lease, namespace: str = namespace) -> Store:
                return BoundedStore(ClusterStore(api, namespace, "a"), boundaries)

            found = crashes.play(script, stores, (call, side))
            assert found == calm, f"died {side} call {call} ({calm.calls[call - 1]})"
            reader = ClusterStore(api, namespace, None)
            assert replay.replay(reader.records(reader.entries("flights")[0])).same


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ApiServer]:
    """A server that may be killed: nobody else's."""
    with ApiServer(tmp_path) as running:
        running.kubectl("apply", "--server-side", "-f", CRDS)
        established(running)
        running.kubectl("create", "namespace", NAMESPACE)
        yield running


def test_an_api_server_that_dies_loses_no_record(mortal: ApiServer) -> None:
    """Verify that what was acknowledged is there once, in order, though the server was killed while it wrote."""
    api = KubernetesApi.connect(mortal.kubeconfig)
    entries = [Entry(f"killed-{number}", 1, "r") for number in range(4)]
    store = ClusterStore(api, NAMESPACE, "a")
    store.models()
    told: dict[Entry, list[Any]] = {entry: [] for entry in entries}
    failed: dict[Entry, int] = dict.fromkeys(entries, 0)
    ended = threading.Event()

    def write(entry: Entry) -> None:
        turn = 0
        while not ended.is_set() or not told[entry]:
            turn += 1
            record = decision(len(told[entry]), turn=turn, why="x" * 2000)
            try:
                store.append(entry, record if told[entry] else {**BEGIN, "turn": turn})
            except UnreachableError:
                failed[entry] += 1
                ended.wait(0.05)
            else:
                told[entry].append(record if told[entry] else {**BEGIN, "turn": turn})

    threads = [threading.Thread(target=write, args=(entry,), daemon=True) for entry in entries]
    for each in threads:
        each.start()

    def written() -> int:
        """Records of the journal that has the fewest."""
        return min(map(len, told.values()))

    eventually(lambda: written() > 5, "the server takes records")
    mortal.kill()
    eventually(lambda: all(failed.values()), "every writer hears of it")
    before = max(map(len, told.values()))
    mortal.start()
    eventually(lambda: written() > before + 5, "it takes records again")
    ended.set()
    for each in threads:
        each.join(60)
        assert not each.is_alive()
    reader = ClusterStore(api, NAMESPACE, None)
    for entry in entries:
        assert list(reader.records(entry)) == told[entry]


def test_many_journals_are_opened_by_their_names(api: KubernetesApi) -> None:
    """Verify that knowing 400 journals of 16 MB takes a page of names, and memory for no records."""
    text = "x" * 40_000
    for number in range(400):
        part = journal_parts.Part(Entry(f"many-{number:03d}", 1, "r"), 1)
        api.create(RELEASE_JOURNAL, NAMESPACE, part.content("a", ['{"kind":"release","why":"' + text + '"}']))
    store = ClusterStore(api, NAMESPACE, "b")
    tracemalloc.start()
    models = [model for model in store.models() if model.startswith("many-")]
    for model in models[:20]:
        (entry,) = store.entries(model)
        assert [record["kind"] for record in store.records(entry)] == ["release"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(models) == 400
    assert peak < 400 * len(text) / 4
