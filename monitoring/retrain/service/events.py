"""CloudEvents of type `dev.windlass.retrain.signal` as notices. Pure: the service journals what this reads.

The data of an event: `workload` and `kind`; of the kinds that say that something is wrong also `champion`, and `ended`
where it is over; of the others `cause` (default: the event's own id). `at` is when it began (default: the event's
time), `detail` the evidence. An event delivered twice has one cause, so it is one signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from monitoring.collector import cloudevents
from monitoring.collector.cloudevents import Event
from monitoring.retrain.history import FINGERPRINT
from monitoring.retrain.service.notice import Notice, kind, moment, text
from monitoring.retrain.signals import INCIDENTS
from windlass.errors import UsageError

TYPE = "dev.windlass.retrain.signal"
KNOWN = ("workload", "kind", "champion", "cause", "at", "ended", "detail")


def parse(headers: Mapping[str, str], body: bytes, now: datetime) -> tuple[Notice, ...]:
    """The notices of a POST in any of the three content modes; one that is wrong refuses all.

    Args:
        headers: by names in lower case.
        now: the time of an event that states none.

    Raises:
        UsageError: it is no such event; the field, its value and the remedy are named.
    """
    return tuple(_notice(event, now) for event in cloudevents.parse(headers, body))


def _notice(event: Event, now: datetime) -> Notice:
    if event.type != TYPE:
        raise UsageError(f"type = {event.type!r}: this takes events of type {TYPE}")
    data = event.data
    if not isinstance(data, dict):
        raise UsageError(f"data = {data!r}: must be an object with workload and kind")
    unknown = sorted(set(data) - set(KNOWN))
    if unknown:
        raise UsageError(f"data.{unknown[0]} is unknown; known here: {', '.join(KNOWN)}")
    found = kind(data.get("kind"), "data.kind")
    detail = data.get("detail") or {}
    if not isinstance(detail, dict):
        raise UsageError(f"data.detail = {detail!r}: must be an object")
    about_a_version = found in INCIDENTS
    champion = data.get("champion")
    if about_a_version or champion is not None:
        champion = text(champion, "data.champion")
    cause = None if about_a_version else text(data.get("cause") or f"{found}/{event.id}", "data.cause")
    if about_a_version and data.get("cause") is not None:
        raise UsageError("data.cause: an incident is named by its kind and its champion; leave it out")
    if not about_a_version and data.get("ended") is not None:
        raise UsageError(f"data.ended: {found} does not end; leave it out")
    stated = now if event.at is None else datetime.fromtimestamp(event.at, UTC)
    return Notice(
        workload=text(data.get("workload"), "data.workload"),
        kind=found,
        champion=champion,
        cause=cause,
        since=moment(data["at"], "data.at") if data.get("at") is not None else stated,
        ended=moment(data["ended"], "data.ended") if data.get("ended") is not None else None,
        fingerprint=str(detail.get(FINGERPRINT, "")),
        detail={**detail, "event": event.id, "source": event.source},
    )
