"""CloudEvents as notices. Pure: the service journals what this reads.

A signal is of type `dev.windlass.retrain.signal`; `dev.windlass.retrain.word` is a person's word that asks for no run
(`workload`, `word`: dataRepaired or giveUp with `trigger`, and `by`); `dev.windlass.pipeline.ended` is the word of a
run's exit task.

The data of an event: `workload` and `kind`; of the kinds that say that something is wrong also `champion`, and `ended`
where it is over; of the others `cause` (default: the event's own id). `at` is when it began (default: the event's
time), `detail` the evidence; a `manual` one may `override`. An event delivered twice has one cause: it is one signal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from monitoring.collector import cloudevents
from monitoring.collector.cloudevents import Event
from monitoring.retrain.history import FINGERPRINT
from monitoring.retrain.service.notice import Notice, RunEnded, Word, kind, moment, text
from monitoring.retrain.signals import INCIDENTS
from windlass.errors import UsageError

TYPE = "dev.windlass.retrain.signal"
WORD = "dev.windlass.retrain.word"
ENDED = "dev.windlass.pipeline.ended"
STATES = ("SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED", "UNKNOWN")
LARGEST_ERROR = 2000
KNOWN = ("workload", "kind", "champion", "cause", "at", "ended", "detail", "override")
KNOWN_OF_WORDS = ("workload", "word", "trigger", "by")
LARGEST_DETAIL = 64 * 1024
DEEPEST_DETAIL = 32


def parse(headers: Mapping[str, str], body: bytes, now: datetime) -> tuple[Notice | RunEnded | Word, ...]:
    """What a POST in any of the three content modes tells; one event that is wrong refuses all.

    Args:
        headers: by names in lower case.
        now: the time of an event that states none.

    Raises:
        UsageError: it is no such event; the field, its value and the remedy are named.
    """
    events = cloudevents.parse(headers, body)
    return tuple(_told(event, now) for event in events)


def _told(event: Event, now: datetime) -> Notice | RunEnded | Word:
    if event.type == ENDED:
        return _ended(event)
    return _word(event) if event.type == WORD else _notice(event, now)


def _word(event: Event) -> Word:
    data = _object(event.data, KNOWN_OF_WORDS, "workload and word")
    workload, what = text(data.get("workload"), "data.workload"), data.get("word")
    by = text(data.get("by") or "a person", "data.by")
    if what == "dataRepaired":
        if data.get("trigger") is not None:
            raise UsageError("data.trigger: dataRepaired is about the data; leave it out")
        return Word(workload, "dataRepaired", by)
    if what == "giveUp":
        return Word(workload, "giveUp", by, text(data.get("trigger"), "data.trigger"))
    raise UsageError(f"data.word = {what!r}: use dataRepaired or giveUp")


def _object(data: Any, known: tuple[str, ...], least: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UsageError(f"data = {data!r}: must be an object with {least}")
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise UsageError(f"data.{unknown[0]} is unknown; known here: {', '.join(known)}")
    return data


def _ended(event: Event) -> RunEnded:
    data = event.data
    if not isinstance(data, dict):
        raise UsageError(f"data = {data!r}: must be an object with workload, run and state")
    state = text(data.get("state"), "data.state")
    if state not in STATES:
        raise UsageError(f"data.state = {state!r}: use one of {', '.join(STATES)}")
    error = data.get("error") or ""
    if not isinstance(error, str):
        raise UsageError(f"data.error = {error!r}: must be a text")
    return RunEnded(
        text(data.get("workload"), "data.workload"),
        text(data.get("run"), "data.run"),
        state,
        " ".join(error.split())[:LARGEST_ERROR],
    )


def _notice(event: Event, now: datetime) -> Notice:
    if event.type != TYPE:
        raise UsageError(f"type = {event.type!r}: this takes events of type {TYPE}, {WORD} and {ENDED}")
    data = _object(event.data, KNOWN, "workload and kind")
    found = kind(data.get("kind"), "data.kind")
    detail = data.get("detail") or {}
    if not isinstance(detail, dict):
        raise UsageError(f"data.detail = {detail!r}: must be an object")
    _require_evidence(detail)
    _require_run(detail)
    about_a_version = found in INCIDENTS
    champion = data.get("champion")
    if about_a_version or champion is not None:
        champion = text(champion, "data.champion")
    cause = None if about_a_version else text(data.get("cause") or f"{found}/{event.id}", "data.cause")
    if about_a_version and data.get("cause") is not None:
        raise UsageError("data.cause: an incident is named by its kind and its champion; leave it out")
    if not about_a_version and data.get("ended") is not None:
        raise UsageError(f"data.ended: {found} does not end; leave it out")
    override = data.get("override", False)
    if not isinstance(override, bool) or (override and found != "manual"):
        raise UsageError(f"data.override = {override!r}: true or false, and true of a manual signal alone")
    return Notice(
        workload=text(data.get("workload"), "data.workload"),
        kind=found,
        champion=champion,
        cause=cause,
        since=moment(data["at"], "data.at") if data.get("at") is not None else _stated(event, now),
        ended=moment(data["ended"], "data.ended") if data.get("ended") is not None else None,
        fingerprint=str(detail.get(FINGERPRINT, "")),
        detail={**detail, "event": event.id, "source": event.source},
        override=override,
    )


def _stated(event: Event, now: datetime) -> datetime:
    try:
        return now if event.at is None else datetime.fromtimestamp(event.at, UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"time: {event.at:.0f} s of the epoch are before or after all years in UTC"
        ) from None


def _require_evidence(detail: dict[str, Any]) -> None:
    """Refuse what would burden every later reader of the journal, or what a reader could not take apart."""
    if _deeper(detail, DEEPEST_DETAIL):
        raise UsageError(f"data.detail is nested more than {DEEPEST_DETAIL} deep; send the evidence flat")
    size = len(json.dumps(detail))
    if size > LARGEST_DETAIL:
        raise UsageError(
            f"data.detail has {size} bytes: it is journaled, send at most {LARGEST_DETAIL} and name where the rest is"
        )


def _require_run(detail: dict[str, Any]) -> None:
    """Refuse what no run could be made of (see pipelines.span): it would be found out after the signal was accepted."""
    for name in ("from", "to", "data_version"):
        if detail.get(name) is not None:
            text(detail[name], f"data.detail.{name}")
    trials = detail.get("trials")
    if trials is not None and (type(trials) is not int or trials < 1):
        raise UsageError(f"data.detail.trials = {trials!r}: must be a whole number of 1 or more")


def _deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper(each, levels - 1) for each in inner)
