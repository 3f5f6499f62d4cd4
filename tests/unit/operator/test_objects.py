"""What is known of Release objects, and what of it is news."""

from __future__ import annotations

from typing import Any

from windlass.operator.marks import BY, COMMAND, FINALIZER
from windlass.operator.releases import Objects
from windlass.operator.seen import of_object

KEY = ("team", "flights")


def body(name: str = "flights-13", version: int = 7, uid: str = "u", **more: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": uid,
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": f"2026-03-01T12:00:0{name[-1]}Z",
        **more.pop("metadata", {}),
    }
    return {"metadata": metadata, "spec": {"model": "flights"}, **more}


def test_our_own_words_are_no_news() -> None:
    """Verify that a status that comes back by the watch is known and wakes nobody, and that a command does."""
    objects = Objects()
    assert objects.learn(body()) is not None
    assert objects.learn(body(version=8, status={"phase": "Progressing"})) is None
    assert objects.of(KEY)[0].phase == "Progressing"
    told = objects.learn(body(version=9, metadata={"annotations": {COMMAND: "pause", BY: "ana"}}))
    assert told is not None and (told.command, told.by) == ("pause", "ana")


def test_an_older_word_does_not_replace_a_newer_one() -> None:
    """Verify that a watch that is behind our own write changes nothing."""
    objects = Objects()
    objects.learn(body(version=10, status={"phase": "Promoted"}))
    assert objects.learn(body(version=9, status={"phase": "Progressing"})) is None
    assert objects.of(KEY)[0].phase == "Promoted"


def test_a_name_may_come_back() -> None:
    """Verify that the deletion of an object does not take a newer one of its name away."""
    objects = Objects()
    objects.learn(body())
    first = objects.of(KEY)[0]
    objects.learn(body(version=3, uid="v"))
    assert not objects.drop(first) and [seen.uid for seen in objects.of(KEY)] == ["v"]
    assert objects.drop(objects.of(KEY)[0]) and objects.of(KEY) == []


def test_what_is_gone_stays_gone() -> None:
    """Verify that an answer to a write which arrives after the deletion brings nothing back."""
    objects = Objects()
    objects.learn(body())
    objects.drop(objects.of(KEY)[0])
    assert objects.learn(body(version=8)) is None and objects.of(KEY) == []


def test_the_oldest_comes_first_and_phases_are_counted() -> None:
    """Verify the order of a model's objects, and the gauge's numbers."""
    objects = Objects()
    for name in ("flights-3", "flights-1", "flights-2"):
        objects.learn(body(name, uid=name))
    objects.learn(body("flights-2", version=8, uid="flights-2", status={"phase": "Promoted"}))
    assert [seen.name for seen in objects.of(KEY)] == ["flights-1", "flights-2", "flights-3"]
    assert objects.phases() == {"Pending": 2, "Promoted": 1}


def test_an_object_is_settled_when_nothing_is_left_to_do() -> None:
    """Verify that a finalizer, a command or a deletion keeps a finished release in work."""
    done = {"status": {"phase": "Promoted"}}
    assert of_object(body(**done)).settled and of_object(body(status={"phase": "Refused"})).settled
    assert not of_object(body(status={"phase": "Progressing"})).settled
    for metadata in (
        {"finalizers": [FINALIZER]},
        {"annotations": {COMMAND: "rollback"}},
        {"deletionTimestamp": "2026-03-01T13:00:00Z"},
    ):
        assert not of_object(body(metadata=metadata, **done)).settled
