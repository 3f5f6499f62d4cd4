"""Journals on an API server: what any store must do, who may write, and answers that get lost."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes_server import Asked, KubernetesServer, Scripted
from kubernetes_wire import Wire, weather

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import journal_chain, journal_parts
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.store import ClusterStore, OvertakenError
from serving.release.journal.store import DiskStore, Entry, Store
from windlass.errors import WindlassError

START = datetime(2030, 1, 1, tzinfo=UTC)
FLIGHTS = Entry("flights", 1, "flights-13")
NEXT = Entry("flights", 2, "flights-14")
BEGIN = {"kind": "release", "document": {"ä": "\u2028"}, "champion": "12"}
PREFIX = "/apis/windlass.dev/v1alpha1/namespaces/prod/releasejournals/"

Open = Callable[[], Store]


def decision(seq: int, **more: Any) -> dict[str, Any]:
    return {"kind": "decision", "seq": seq, **more}


def nothing(seconds: float) -> None:
    pass


class Cluster:
    """An API server whose wire can be told what becomes of each request, and stores on it."""

    def __init__(self) -> None:
        self.state = KubernetesServer()
        self.fates: list[str] = []
        self.wire = Wire(self.state, self._fate)

    def _fate(self, asked: Asked) -> str:
        return self.fates.pop(0) if self.fates else "through"

    def open(self, writer: str | None = "a", **options: Any) -> ClusterStore:
        return ClusterStore(KubernetesApi(self.wire, sleep=nothing), "prod", writer, sleep=nothing, **options)

    def seen(self, entry: Entry) -> list[Any]:
        """What stands there, by somebody who only reads."""
        return list(self.open(None).records(entry))

    def spec(self, place: int) -> Any:
        return self.state.objects[f"{PREFIX}flights.{place:06d}"]["spec"]

    def requests(self) -> list[str]:
        found = [asked.method for asked in self.state.asked]
        self.state.asked.clear()
        return found


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that are full soon."""
    monkeypatch.setattr(journal_chain, "PART", 200)
    monkeypatch.setattr(journal_parts, "PIECE", 150)


# --- what any store must do


@pytest.fixture(params=["disk", "cluster", "cluster-small"])
def reopened(
    request: pytest.FixtureRequest, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Opens the same store anew, as the next process would."""
    if request.param == "cluster-small":
        request.getfixturevalue("small")
    yield (lambda: DiskStore(tmp_path / "releases")) if request.param == "disk" else cluster.open


def test_records_come_back_in_order_as_they_were(reopened: Open) -> None:
    """Verify that whoever opens the journals next reads every record, the first one first, and exactly."""
    written = [BEGIN, *(decision(seq, values=[0.1 * seq, 1e-300], why="ä" * seq) for seq in range(25))]
    store = reopened()
    for record in written:
        store.append(FLIGHTS, record)
        assert list(store.records(FLIGHTS))[-1] == record
    store.close()
    assert list(reopened().records(FLIGHTS)) == written
    assert reopened().models() == ["flights"] and reopened().entries("flights") == [FLIGHTS]


def test_releases_of_a_model_have_journals_of_their_own(reopened: Open) -> None:
    """Verify that entries come in the order of their numbers, and that an older one may still be added to."""
    store = reopened()
    other = Entry("taxis", 1, "flights-13")
    for entry in (FLIGHTS, other, NEXT):
        store.append(entry, {**BEGIN, "champion": entry.name})
    store.append(FLIGHTS, decision(1))
    store.append(NEXT, decision(1))
    store.close()
    store = reopened()
    assert store.models() == ["flights", "taxis"]
    assert store.entries("flights") == [FLIGHTS, NEXT] and store.entries("taxis") == [other]
    assert store.entries("trains") == [] and list(store.records(Entry("trains", 1, "x"))) == []
    for entry in (FLIGHTS, NEXT):
        assert list(store.records(entry)) == [{**BEGIN, "champion": entry.name}, decision(1)]


def test_who_comes_after_goes_on(reopened: Open) -> None:
    """Verify that what another process wrote is added to, and read by the third."""
    written: list[Any] = []
    for turn in range(6):
        store = reopened()
        assert list(store.records(FLIGHTS)) == written
        for seq in range(4):
            written.append(decision(seq, turn=turn) if written else BEGIN)
            store.append(FLIGHTS, written[-1])
        store.close()


def test_documents_wait_in_the_order_of_their_coming(reopened: Open) -> None:
    """Verify that the same name waits once, with what it said last, that the longest waiting comes first, and that who
    is out stays out."""
    store = reopened()
    store.enqueue("flights", "second", {"n": 2}, START + timedelta(microseconds=1))
    store.enqueue("flights", "first", {"n": 1}, START)
    store.enqueue("flights", "first", {"n": 9}, START + timedelta(days=1))
    store.enqueue("taxis", "first", {"n": 3}, START)
    assert reopened().queued("flights") == [("first", {"n": 9}), ("second", {"n": 2})]
    store.dequeue("flights", "first")
    store.dequeue("flights", "never")
    assert store.queued("flights") == reopened().queued("flights") == [("second", {"n": 2})]
    assert reopened().models() == ["flights", "taxis"] and reopened().entries("flights") == []


def test_what_no_json_is_is_refused(reopened: Open) -> None:
    """Verify that a record which other readers could not read is not written."""
    store = reopened()
    store.append(FLIGHTS, BEGIN)
    with pytest.raises(ValueError, match="JSON compliant"):
        store.append(FLIGHTS, decision(1, value=float("nan")))
    assert list(store.records(FLIGHTS)) == [BEGIN]


# --- objects


def test_an_object_says_whose_it_is(cluster: Cluster) -> None:
    """Verify name, labels and fields of the first object: people find it, and its index needs no spec."""
    cluster.open("operator-0").append(FLIGHTS, BEGIN)
    (path,) = cluster.state.objects
    found = cluster.state.objects[path]
    assert path == f"{PREFIX}flights.000001"
    assert found["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "windlass",
        "windlass.dev/model": "flights",
        "windlass.dev/release": "flights-13",
        "windlass.dev/number": "1",
    }
    writer = found["spec"].pop("writer")
    assert writer.startswith("operator-0 ")
    assert found["spec"] == {
        "model": "flights",
        "release": "flights-13",
        "number": 1,
        "part": 1,
        "full": False,
        "records": ['{"kind":"release","document":{"\\u00e4":"\\u2028"},"champion":"12"}'],
    }


def test_an_append_is_one_request(cluster: Cluster) -> None:
    """Verify that the usual append asks once, for the version that is known, and is answered without the spec."""
    store = cluster.open()
    store.append(FLIGHTS, BEGIN)
    version = cluster.state.objects[f"{PREFIX}flights.000001"]["metadata"]["resourceVersion"]
    cluster.requests()
    store.append(FLIGHTS, decision(1))
    (asked,) = cluster.state.asked
    assert asked.method == "PATCH" and "PartialObjectMetadata" in asked.accept
    assert asked.body[0] == {"op": "replace", "path": "/metadata/resourceVersion", "value": version}


def test_a_full_object_is_packed_and_the_next_one_goes_on(cluster: Cluster) -> None:
    """Verify that objects stay small, that full ones shrink, and that all is read out of them again."""
    store = cluster.open()
    written = [
        BEGIN,
        *(decision(seq, state={"phase": "Running"}, reason="as before " * 400) for seq in range(100)),
    ]
    for record in written:
        store.append(FLIGHTS, record)
    parts = [spec["records"] for spec in map(cluster.spec, range(1, len(cluster.state.objects) + 1))]
    assert len(parts) > 5
    assert all(sum(map(len, records)) <= journal_parts.PART for records in parts)
    assert all(len(records) == 1 and len(records[0]) < journal_parts.PART / 20 for records in parts[:-1])
    assert cluster.seen(FLIGHTS) == written


@pytest.mark.parametrize("size", [journal_parts.PIECE - 200, 4 * journal_parts.PIECE + 7])
def test_a_record_that_no_object_takes_is_written_in_pieces(cluster: Cluster, size: int) -> None:
    """Verify that evidence of any size finds room: an engine that cannot journal cannot roll back."""
    noise = random.Random(1)
    big = decision(1, values="".join(noise.choices('+<>{z\\"a', k=size)))
    store = cluster.open()
    for record in (BEGIN, big, decision(2)):
        store.append(FLIGHTS, record)
    assert cluster.seen(FLIGHTS) == list(cluster.open("b").records(FLIGHTS)) == [BEGIN, big, decision(2)]
    largest = max(sum(map(len, found["spec"]["records"])) for found in cluster.state.objects.values())
    assert largest <= journal_parts.PART + journal_parts.PIECE


def test_a_record_without_its_last_piece_does_not_count(cluster: Cluster, small: None) -> None:
    """Verify that a process which died between two pieces leaves nothing to be seen, and the next goes on."""
    store = cluster.open()
    store.append(FLIGHTS, BEGIN)
    for element in journal_parts.elements(decision(1, why="x" * 500))[:-1]:
        store._chains["flights"].add(FLIGHTS, element)
    successor = cluster.open("b")
    assert list(successor.records(FLIGHTS)) == [BEGIN]
    successor.append(FLIGHTS, decision(1, why="y" * 500))
    successor.append(FLIGHTS, decision(2))
    assert cluster.seen(FLIGHTS) == [BEGIN, decision(1, why="y" * 500), decision(2)]


def test_the_index_needs_no_records(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that opening reads metadata alone, page by page, and one object for each model that is opened."""
    store = cluster.open()
    for model in range(30):
        for seq in range(3):
            store.append(Entry(f"m{model:02d}", 1, "r"), decision(seq) if seq else BEGIN)
    cluster.requests()
    successor = cluster.open("b")
    assert len(successor.models()) == 30
    assert [asked.accept.startswith("application/json;as=Partial") for asked in cluster.state.asked] == [
        True,
        False,
    ]
    assert cluster.state.asked[1].query["labelSelector"] == "windlass.dev/queued"
    cluster.requests()
    entry = successor.entries("m07")[-1]
    assert list(successor.records(entry)) == [BEGIN, decision(1), decision(2)]
    assert cluster.requests() == ["PATCH"]
    monkeypatch.setattr(KubernetesApi.all, "__kwdefaults__", {**KubernetesApi.all.__kwdefaults__, "limit": 7})
    assert cluster.open("c").models() == successor.models()
    assert len(cluster.requests()) == 6


def test_a_lost_object_is_not_read_over(cluster: Cluster, small: None) -> None:
    """Verify that a journal from which somebody deleted an object is no shorter journal, wherever it is missing."""
    store = cluster.open()
    for seq in range(20):
        store.append(FLIGHTS, decision(seq, why="x" * 50) if seq else BEGIN)
    middle, first = f"{PREFIX}flights.000003", f"{PREFIX}flights.000001"
    kept = cluster.state.objects.pop(middle)
    with pytest.raises(WindlassError, match=r"prod/flights\.000003 is missing"):
        cluster.open("b").entries("flights")
    with pytest.raises(WindlassError, match=r"lacks ReleaseJournal prod/flights\.000003"):
        list(store.records(FLIGHTS))
    cluster.state.objects[middle] = kept
    del cluster.state.objects[first]
    with pytest.raises(WindlassError, match=r"flights-13' lacks its beginning"):
        list(cluster.open("b").records(FLIGHTS))


def test_old_journals_go_when_told(cluster: Cluster, small: None) -> None:
    """Verify that the newest ones stay, that numbers go on, and that nobody is told of what is gone."""
    store = cluster.open(keep=2)
    entries = [Entry("flights", number, f"r{number}") for number in range(1, 6)]
    for entry in entries:
        for seq in range(8):
            store.append(entry, decision(seq, why="x" * 50) if seq else BEGIN)
    assert store.entries("flights") == cluster.open("b").entries("flights") == entries[2:]
    assert cluster.open("c", keep=2).entries("flights") == entries[2:]
    assert [len(cluster.seen(entry)) for entry in entries] == [0, 0, 8, 8, 8]


def test_an_open_for_reading_disturbs_nobody(cluster: Cluster) -> None:
    """Verify that a reader writes nothing, sees what comes, and may not add."""
    store, reader = cluster.open(), cluster.open(None)
    store.append(FLIGHTS, BEGIN)
    assert list(reader.records(FLIGHTS)) == [BEGIN]
    store.append(FLIGHTS, decision(1))
    store.append(NEXT, BEGIN)
    assert list(reader.records(FLIGHTS)) == [BEGIN, decision(1)]
    assert reader.entries("flights") == [FLIGHTS, NEXT]
    with pytest.raises(WindlassError, match="opened for reading"):
        reader.append(FLIGHTS, decision(2))


# --- another leader


def test_a_leader_that_was_replaced_adds_nothing_more(cluster: Cluster) -> None:
    """Verify that its next append fails from the moment on in which the successor opens the journal."""
    old, new = cluster.open("old"), cluster.open("new")
    old.append(FLIGHTS, BEGIN)
    assert new.models() == ["flights"]
    old.append(FLIGHTS, decision(1))  # the successor has not looked yet, and will read it
    new.entries("flights")
    assert list(new.records(FLIGHTS)) == [BEGIN, decision(1)]
    for entry in (FLIGHTS, NEXT):
        with pytest.raises(OvertakenError, match=r"flights\.000001: new [0-9a-f]{8} 1 writes it"):
            old.append(entry, decision(2, by="old"))
    new.append(FLIGHTS, decision(2, by="new"))
    with pytest.raises(OvertakenError):
        old.append(FLIGHTS, decision(3, by="old"))
    assert cluster.seen(FLIGHTS) == [BEGIN, decision(1), decision(2, by="new")]


def test_nor_does_it_read_a_beginning_for_the_whole(cluster: Cluster) -> None:
    """Verify that who leads again, after another did, is told to read anew before it acts on what it remembers."""
    old, new = cluster.open("old"), cluster.open("new")
    old.append(FLIGHTS, BEGIN)
    old.append(FLIGHTS, decision(1))
    new.entries("flights")
    new.append(FLIGHTS, decision(2))
    with pytest.raises(OvertakenError, match=r"new .* writes it"):
        list(old.records(FLIGHTS))
    old.reload("flights")
    assert list(old.records(FLIGHTS)) == [BEGIN, decision(1), decision(2)]
    # the same where it had closed an object and not begun the next one
    cluster.fates = ["through", "through", "lost", "lost"]
    with pytest.raises(UnreachableError):
        old.append(NEXT, BEGIN)
    new.reload("flights")
    new.append(FLIGHTS, decision(3))
    with pytest.raises(OvertakenError, match=r"new .* writes it"):
        list(old.records(FLIGHTS))


@pytest.mark.parametrize("cut", range(4))
def test_nor_does_it_where_an_object_was_just_full(cluster: Cluster, small: None, cut: int) -> None:
    """Verify the same whichever of the requests of a change of objects the successor came after."""
    old = cluster.open("old")
    old.append(FLIGHTS, BEGIN)
    written = [BEGIN]
    while len(cluster.state.objects) == 1:
        written.append(decision(len(written), why="x" * 40))
        cluster.requests()
        old.append(FLIGHTS, written[-1])
    assert cluster.requests() == ["GET", "PATCH", "POST"]
    # once more, stopped after `cut` requests of the next change
    while len(cluster.state.objects) == 2:
        cluster.fates = ["through"] * cut + ["lost"] * 50
        if cut and cluster.spec(2) and sum(map(len, cluster.spec(2)["records"])) < 120:
            cluster.fates = []
        record = decision(len(written), why="x" * 40)
        try:
            old.append(FLIGHTS, record)
        except UnreachableError:
            break
        written.append(record)
    cluster.fates = []
    new = cluster.open("new")
    assert list(new.records(FLIGHTS))[: len(written)] == written
    with pytest.raises(OvertakenError):
        old.append(FLIGHTS, decision(99, by="old"))
    with pytest.raises(OvertakenError):
        old.append(NEXT, BEGIN)
    new.append(FLIGHTS, decision(98))
    assert cluster.seen(FLIGHTS)[-1] == decision(98)
    assert decision(99, by="old") not in cluster.seen(FLIGHTS)


def test_two_that_begin_a_model_meet(cluster: Cluster) -> None:
    """Verify that of two leaders who start a model's first release one is told so."""
    one, two = cluster.open("one"), cluster.open("two")
    assert one.models() == two.models() == []
    one.append(FLIGHTS, BEGIN)
    with pytest.raises(OvertakenError, match=r"one .* writes it"):
        two.append(FLIGHTS, BEGIN)
    two.reload("flights")
    assert two.entries("flights") == [FLIGHTS]
    two.append(FLIGHTS, decision(1))
    with pytest.raises(OvertakenError, match=r"two .* writes it"):
        one.append(FLIGHTS, decision(1))


def test_the_same_process_that_reads_again_goes_on(cluster: Cluster) -> None:
    """Verify that a journal which a person touched is refused until it is read again."""
    store = cluster.open()
    store.append(FLIGHTS, BEGIN)
    path = f"{PREFIX}flights.000001"
    found = cluster.state.objects[path]
    cluster.state.put(
        path, {**found, "metadata": {"labels": {**found["metadata"]["labels"], "seen": "by-ada"}}}
    )
    store.append(FLIGHTS, decision(1))  # a label is nobody's record
    found = cluster.state.objects[path]
    records = [*found["spec"]["records"], '{"kind":"decision","seq":7}']
    cluster.state.put(path, {**found, "spec": {**found["spec"], "records": records}})
    with pytest.raises(OvertakenError, match="did not write"):
        store.append(FLIGHTS, decision(2))
    store.reload("flights")
    assert list(store.records(FLIGHTS))[-1] == decision(7)
    store.append(FLIGHTS, decision(8))
    cluster.state.remove(path)
    with pytest.raises(OvertakenError, match="was deleted"):
        store.append(FLIGHTS, decision(9))


# --- answers that are lost


@pytest.mark.parametrize(
    ("fates", "raises"),
    [
        pytest.param(["unanswered"], False, id="it-happened-and-is-seen"),
        pytest.param(["lost"], False, id="it-did-not-and-is-tried-again"),
        pytest.param(["busy", "through", "busy"], False, id="busy"),
        pytest.param(["unanswered", "lost"], True, id="it-happened-and-nobody-can-be-asked"),
        pytest.param(["lost", "lost"], True, id="nothing-arrives"),
        pytest.param(["late", "lost"], True, id="it-will-happen"),
    ],
)
@pytest.mark.parametrize("first", [False, True], ids=["next-record", "first-record"])
def test_an_append_without_an_answer(cluster: Cluster, fates: list[str], raises: bool, first: bool) -> None:
    """Verify that it is neither lost nor doubled, and that one which raised has not happened."""
    store = cluster.open()
    store.models()
    written: list[Any] = []
    if not first:
        store.append(FLIGHTS, BEGIN)
        written.append(BEGIN)
    record = decision(1) if written else BEGIN
    cluster.fates = list(fates)
    if raises:
        with pytest.raises(UnreachableError):
            store.append(FLIGHTS, record)
        assert list(store.records(FLIGHTS)) == written
        assert store.entries("flights") == ([FLIGHTS] if written else [])
        record = {**record, "decided": "anew"}
        store.append(FLIGHTS, record)
    else:
        store.append(FLIGHTS, record)
    assert cluster.fates == []
    cluster.wire.arrive()
    written += [record, decision(2)]
    store.append(FLIGHTS, decision(2))
    assert list(store.records(FLIGHTS)) == cluster.seen(FLIGHTS) == written


def test_one_that_raised_and_happened_is_the_next_process_s(cluster: Cluster) -> None:
    """Verify that who comes after takes it for written: it was decided, and nobody acted."""
    store = cluster.open()
    store.append(FLIGHTS, BEGIN)
    cluster.fates = ["unanswered", "lost"]
    with pytest.raises(UnreachableError):
        store.append(FLIGHTS, decision(1))
    assert list(cluster.open("b").records(FLIGHTS)) == [BEGIN, decision(1)]
    with pytest.raises(OvertakenError):
        store.append(FLIGHTS, decision(1))


def test_a_start_that_happened_unheard_is_not_another_release_s(cluster: Cluster) -> None:
    """Verify that the object of a release whose start raised becomes that of what is written next."""
    store = cluster.open()
    store.append(FLIGHTS, BEGIN)
    cluster.fates = ["through", "through", "unanswered", "lost"]
    with pytest.raises(UnreachableError):
        store.append(NEXT, BEGIN)
    assert cluster.spec(2)["release"] == "flights-14"
    store.append(FLIGHTS, decision(1))
    assert store.entries("flights") == cluster.open(None).entries("flights") == [FLIGHTS]
    assert cluster.seen(FLIGHTS) == [BEGIN, decision(1)] and cluster.seen(NEXT) == []


def test_an_object_that_was_closed_unheard_takes_no_more(cluster: Cluster, small: None) -> None:
    """Verify that what comes next goes into the next object, however well it would fit into the one before."""
    store = cluster.open()
    written = [BEGIN, decision(1, why="x" * 40)]
    for record in written:
        store.append(FLIGHTS, record)
    cluster.fates = ["through", "unanswered"]
    with pytest.raises(UnreachableError):
        store.append(FLIGHTS, decision(2, why="x" * 100))
    assert cluster.spec(1)["full"]
    store.append(FLIGHTS, decision(2))
    assert len(cluster.spec(1)["records"]) == len(cluster.spec(2)["records"]) == 1
    assert cluster.seen(FLIGHTS) == list(store.records(FLIGHTS)) == [*written, decision(2)]


def test_an_api_server_that_is_down_is_told_promptly(cluster: Cluster) -> None:
    """Verify that an append asks twice and no more, that it decides nothing, and that all goes on after."""
    store = cluster.open()
    store.append(FLIGHTS, BEGIN)
    for seq in range(1, 7):
        cluster.fates = ["lost"] * 9
        cluster.requests()
        with pytest.raises(UnreachableError, match="does not answer"):
            store.append(FLIGHTS, decision(seq))
        assert len(cluster.requests()) <= 2
    cluster.fates = []
    store.append(FLIGHTS, decision(1, when="at last"))
    assert cluster.seen(FLIGHTS) == [BEGIN, decision(1, when="at last")]


def test_what_the_api_server_refuses_was_not_added(cluster: Cluster) -> None:
    """Verify that a refusal is told with its reason, and that the next append is one request again."""
    store = cluster.open()
    store.append(FLIGHTS, BEGIN)
    cluster.state.forbids = lambda asked: "no more than that" if asked.method == "PATCH" else None
    with pytest.raises(RejectedError, match="no more than that"):
        store.append(FLIGHTS, decision(1))
    cluster.state.forbids = lambda asked: None
    cluster.requests()
    store.append(FLIGHTS, decision(1))
    assert cluster.requests() == ["PATCH"] and cluster.seen(FLIGHTS) == [BEGIN, decision(1)]


def test_days_without_room_cost_no_memory(cluster: Cluster) -> None:
    """Verify that an etcd which is full for long, and can be read, is not remembered record by record."""
    store = cluster.open()
    store.append(FLIGHTS, BEGIN)
    cluster.wire.fate = lambda asked: "through" if asked.method == "GET" else "busy"
    tracemalloc.start()
    for seq in range(1, 101):
        with pytest.raises(UnreachableError, match="busy"):
            store.append(FLIGHTS, decision(seq, why="x" * 20_000))
        cluster.state.asked.clear()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100 * 20_000 / 10
    cluster.wire.fate = lambda asked: "through"
    store.append(FLIGHTS, decision(1))
    assert cluster.seen(FLIGHTS) == [BEGIN, decision(1)]


def test_a_queue_survives_lost_answers(cluster: Cluster) -> None:
    """Verify that a document whose keeping raised may be kept again, as it is by then."""
    store = cluster.open()
    store.models()
    cluster.fates = ["unanswered"]
    with pytest.raises(UnreachableError):
        store.enqueue("flights", "late", {"n": 1}, START)
    assert store.queued("flights") == []
    store.enqueue("flights", "late", {"n": 2}, START)
    assert store.queued("flights") == cluster.open("b").queued("flights") == [("late", {"n": 2})]
    cluster.fates = ["unanswered"] + ["lost"] * 4
    with pytest.raises(UnreachableError):
        store.dequeue("flights", "late")
    store.dequeue("flights", "late")
    assert cluster.open("c").queued("flights") == []


@pytest.mark.parametrize("seed", range(25))
def test_whatever_the_wire_does_the_journal_is_what_was_acknowledged(
    cluster: Cluster, small: None, seed: int
) -> None:
    """Verify over random losses, delays, full objects and changes of leaders: one history, nothing lost or doubled."""
    rng = random.Random(seed)
    calm = rng.choice([0.5, 0.8, 0.95])
    stormy = weather(rng, calm)
    told: dict[Entry, list[Any]] = {}
    deposed: list[ClusterStore] = []
    entry, seq = FLIGHTS, 0
    store = cluster.open(f"leader-{seed}")
    cluster.wire.fate = lambda asked: "through"
    store.append(FLIGHTS, BEGIN)
    told[FLIGHTS] = [BEGIN]
    sent: list[tuple[Entry, Any]] = []
    for turn in range(120):
        cluster.wire.fate = stormy
        seq += 1
        action = rng.random()
        if action < 0.06:
            started = Entry("flights", entry.number + 1, f"r{entry.number + 1}")
            where, record = started, {**BEGIN, "turn": turn}
        else:
            where = entry
            record = decision(seq, turn=turn, why="x" * rng.choice([5, 40, 300]))
        sent.append((where, record))
        try:
            store.append(where, record)
        except UnreachableError:
            pass
        else:
            told.setdefault(where, []).append(record)
            entry, sent = where, []
        if rng.random() < 0.3 and cluster.wire.late:
            cluster.wire._answer(cluster.wire.late.pop(rng.randrange(len(cluster.wire.late))))
        cluster.wire.fate = lambda asked: "through"
        if rng.random() < 0.2:
            assert {e: list(store.records(e)) for e in store.entries("flights")} == told
        if rng.random() < 0.08:
            deposed.append(store)
            store = cluster.open(f"leader-{turn}")
            found = {e: list(store.records(e)) for e in store.entries("flights")}
            found = {e: records for e, records in found.items() if records}
            if found != told:  # at most one that raised, at the end of what it was meant for
                changed = [e for e in found if found[e] != told.get(e)]
                assert len(changed) == 1 and set(told) <= set(found)
                *before, last = found[changed[0]]
                assert before == told.get(changed[0], []) and (changed[0], last) in sent
            told, sent = found, []
            entry = max(told)
        for old in deposed[-2:]:
            with pytest.raises(OvertakenError):
                old.append(rng.choice([entry, Entry("flights", 99, "x")]), decision(0, by="a ghost"))
    cluster.wire.arrive()
    store.append(entry, decision(seq, final=True))
    told[entry].append(decision(seq, final=True))
    reader = cluster.open(None)
    found = {e: list(reader.records(e)) for e in reader.entries("flights")}
    assert {e: records for e, records in found.items() if records} == told


def test_a_server_s_own_words_are_told(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify over a real socket that a full etcd is told as such, and leaves nothing behind."""
    store = ClusterStore(api, "prod", "a", sleep=nothing)
    store.append(FLIGHTS, BEGIN)
    server.scripted += [Scripted(500, b'{"message": "etcdserver: mvcc: database space exceeded"}')] * 2
    with pytest.raises(UnreachableError, match="database space exceeded"):
        store.append(FLIGHTS, decision(1))
    store.append(FLIGHTS, decision(1))
    assert list(store.records(FLIGHTS)) == [BEGIN, decision(1)]
