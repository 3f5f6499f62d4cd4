"""What senders say: Alertmanager's notifications and CloudEvents, read as they are sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from retrain_service import alert, notification

from monitoring.retrain.service import alertmanager, events
from windlass.errors import UsageError

NOW = datetime(2013, 6, 1, 12, tzinfo=UTC)
SINCE = "2013-06-01T10:00:00.123456789Z"


def test_an_alert_that_may_retrain_is_a_notice() -> None:
    notices, problems = alertmanager.parse(notification(alert(SINCE)))
    assert problems == ()
    (notice,) = notices
    assert (notice.kind, notice.workload, notice.champion, notice.cause) == (
        "featureDrift",
        "flights",
        "3",
        None,
    )
    assert notice.since == datetime(2013, 6, 1, 10, 0, 0, 123456, tzinfo=UTC) and notice.ended is None
    assert notice.detail["summary"] == "3 of 12 features drifted"
    assert notice.detail["fingerprint"] == notice.fingerprint == "c2f1d6b8a0e4"


def test_the_end_of_an_alert_is_its_own_time() -> None:
    (notice,), _ = alertmanager.parse(notification(alert(SINCE, ended="2013-06-01T13:00:00+02:00")))
    assert notice.ended == datetime(2013, 6, 1, 11, tzinfo=UTC)


def test_alerts_for_people_are_left_alone() -> None:
    told = alert(SINCE)
    del told["labels"]["signal"], told["labels"]["model"]
    assert alertmanager.parse(notification(told)) == ((), ())


def test_one_alert_that_is_wrong_does_not_silence_its_group() -> None:
    notices, problems = alertmanager.parse(notification(alert(SINCE, signal="sunspots"), alert(SINCE)))
    assert len(notices) == 1
    assert problems == (
        "alerts[0].labels.signal = 'sunspots': use one of featureDrift, predictionDrift, performanceDecay, dataQuality",
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"startsAt": "yesterday"}, "startsAt = 'yesterday'", id="no-time"),
        pytest.param({"startsAt": "2013-06-01T10:00:00"}, "has no time zone", id="no-zone"),
        pytest.param({"startsAt": None}, "startsAt = None", id="no-start"),
        pytest.param({"status": "smouldering"}, "status = 'smouldering'", id="no-status"),
        pytest.param({"labels": {"signal": "featureDrift", "version": "3"}}, "labels.model", id="no-model"),
        pytest.param({"labels": {"signal": "featureDrift", "model": "f"}}, "labels.version", id="no-version"),
        pytest.param({"labels": {"signal": 7}}, "mapping of texts", id="no-texts"),
        pytest.param(
            {"labels": {"signal": "manual", "model": "f", "version": "3"}}, "'manual'", id="not-for-alerts"
        ),
    ],
)
def test_what_is_wrong_with_an_alert_is_said_with_its_place(changed: dict[str, Any], said: str) -> None:
    notices, problems = alertmanager.parse(notification({**alert(SINCE), **changed}))
    assert notices == () and len(problems) == 1
    assert problems[0].startswith("alerts[0]") and said in problems[0]


def test_a_trigger_of_a_namespace_hears_its_own_alone() -> None:
    """Verify that the drift of another team's model of the same name is refused with the remedy, in words, and that the
    alerts around it are taken; the end of a foreign incident lets go of nothing either."""
    foreign = [alert(SINCE, namespace="team-b"), alert(SINCE, ended=SINCE, namespace="team-b")]
    notices, problems = alertmanager.parse(
        notification(*foreign, alert(SINCE), alert(SINCE, namespace="team-a")), "team-a"
    )
    assert [notice.detail["labels"]["namespace"] for notice in notices] == ["team-a"]
    assert problems[0] == (
        "alerts[0].labels.namespace = 'team-b': this is the trigger of namespace 'team-a'; let Alertmanager's route to "
        "it match namespace='team-a'"
    )
    assert problems[1].startswith("alerts[1].labels.namespace = 'team-b'")
    assert problems[2].startswith(
        "alerts[2].labels.namespace is missing: this is the trigger of namespace 'team-a'"
    )
    assert len(problems) == 3


def test_where_there_are_no_namespaces_none_is_asked_for() -> None:
    """Verify that one machine's trigger takes alerts as its Prometheus makes them."""
    notices, problems = alertmanager.parse(notification(alert(SINCE), alert(SINCE, namespace="lab")))
    assert (len(notices), problems) == (2, ())


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param([], "no JSON object", id="a-list"),
        pytest.param({}, "version = None", id="nothing"),
        pytest.param({"version": "3", "alerts": []}, "version = '3'", id="another-version"),
        pytest.param({"version": "4"}, "alerts = None", id="no-alerts"),
    ],
)
def test_what_is_no_notification_is_refused(document: Any, said: str) -> None:
    with pytest.raises(UsageError, match=r"send|reads|must be") as refusal:
        alertmanager.parse(document)
    assert said in str(refusal.value)


DATA = {"workload": "flights", "kind": "newData", "cause": "newData/v7", "detail": {"new_rows": 10}}
DRIFTED = {"workload": "flights", "kind": "featureDrift", "champion": "3", "detail": {"share": 0.4}}


def event(data: Any, **changed: str) -> dict[str, Any]:
    told = {"specversion": "1.0", "id": "e1", "source": "/analysis", "type": events.TYPE}
    return {**told, "time": "2013-06-01T09:00:00Z", "data": data, **changed}


def structured(*told: dict[str, Any]) -> tuple[events.Notice, ...]:
    if len(told) == 1:
        kind, body = "application/cloudevents+json", json.dumps(told[0])
    else:
        kind, body = "application/cloudevents-batch+json", json.dumps(told)
    return events.parse({"content-type": kind}, body.encode(), NOW)


def test_an_event_is_read_in_each_of_the_three_modes() -> None:
    headers = {f"ce-{k}": v for k, v in event(None).items() if k != "data"}
    binary = events.parse({**headers, "content-type": "application/json"}, json.dumps(DRIFTED).encode(), NOW)
    assert binary == structured(event(DRIFTED)) == structured(event(DRIFTED), event(DRIFTED))[:1]
    (notice,) = binary
    assert (notice.kind, notice.champion, notice.cause) == ("featureDrift", "3", None)
    assert notice.since == datetime(2013, 6, 1, 9, tzinfo=UTC)
    assert notice.detail == {"share": 0.4, "event": "e1", "source": "/analysis"}


def test_what_names_no_cause_is_named_by_its_event_so_that_it_counts_once() -> None:
    (notice,) = structured(event({"workload": "flights", "kind": "manual"}))
    assert notice.cause == "manual/e1"
    assert structured(event(DATA))[0].cause == "newData/v7"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param({"kind": "newData"}, "data.workload = None", id="no-workload"),
        pytest.param({**DATA, "kind": "sunspots"}, "data.kind = 'sunspots'", id="no-kind"),
        pytest.param({**DRIFTED, "champion": None}, "data.champion = None", id="no-champion"),
        pytest.param({**DRIFTED, "cause": "mine"}, "leave it out", id="an-incident-has-its-own-name"),
        pytest.param({**DATA, "ended": "2013-06-01T10:00:00Z"}, "does not end", id="data-does-not-end"),
        pytest.param({**DATA, "at": "noon"}, "data.at = 'noon'", id="no-time"),
        pytest.param({**DATA, "detail": []}, None, id="an-empty-list-is-no-evidence"),
        pytest.param({**DATA, "detail": "much"}, "data.detail = 'much'", id="evidence-is-an-object"),
        pytest.param(
            {**DATA, "override": True}, "true of a manual signal alone", id="only-a-person-overrides"
        ),
        pytest.param([1], "data = [1]", id="no-object"),
        pytest.param(
            {**DATA, "cause": "newData/\x1b[1m"}, "can be printed", id="a-name-that-nobody-can-read"
        ),
        pytest.param(
            {**DATA, "at": "9999-12-31T23:59:59-14:00"}, "data.at = '9999", id="a-time-after-all-years"
        ),
        pytest.param(
            {**DATA, "detail": {"trials": "many"}}, "detail.trials = 'many'", id="no-number-of-trials"
        ),
        pytest.param({**DATA, "detail": {"trials": True}}, "detail.trials = True", id="nor-is-true"),
        pytest.param({**DATA, "detail": {"from": 2013}}, "detail.from = 2013", id="no-date"),
        pytest.param({**DATA, "detail": {"x": "y" * 70_000}}, "send at most", id="too-much-evidence"),
        pytest.param({**DATA, "detail": json.loads('{"x":' * 900 + "1" + "}" * 900)}, "deep", id="too-deep"),
    ],
)
def test_what_is_wrong_with_an_event_is_said_with_its_place(data: Any, said: str | None) -> None:
    if said is None:
        assert structured(event(data))[0].detail == {"event": "e1", "source": "/analysis"}
        return
    with pytest.raises(UsageError) as refusal:
        structured(event(data))
    assert said in str(refusal.value)


def test_an_event_whose_time_no_calendar_has_is_refused() -> None:
    with pytest.raises(UsageError, match="after all years"):
        structured(event(DATA, time="9999-12-31T23:59:59-14:00"))


def test_an_event_of_another_type_is_refused() -> None:
    with pytest.raises(UsageError, match=r"takes events of type dev\.windlass\.retrain\.signal"):
        structured(event(DATA, type="org.kubeflow.serving.inference.request"))
