"""What is accepted as feedback, and which label of several counts."""

from __future__ import annotations

import pytest

from monitoring.labels import Label, LabelBook, Recorded, parse, plain, sent, validate
from windlass.errors import UsageError


@pytest.mark.parametrize(
    ("record", "label"),
    [
        pytest.param(
            {"request_id": "r", "label": 1}, Label("r", 1, 99.0, received=99.0), id="time-defaults-to-now"
        ),
        pytest.param(
            {"request_id": "r", "label": 0, "at": 5}, Label("r", 0, 5.0, received=99.0), id="epoch-seconds"
        ),
        pytest.param(
            {"request_id": "r", "label": True, "at": None},
            Label("r", 1, 99.0, received=99.0),
            id="boolean-label",
        ),
        pytest.param(
            {"request_id": "r", "label": 1, "at": "1970-01-01T00:01:00Z"},
            Label("r", 1, 60.0, received=99.0),
            id="iso-time",
        ),
        pytest.param(
            {"request_id": "r", "label": 1, "at": "1970-01-01T01:00+01:00"},
            Label("r", 1, 0.0, received=99.0),
            id="other-zone",
        ),
    ],
)
def test_feedback_is_read(record: object, label: Label) -> None:
    assert validate(record, now=99.0) == label


@pytest.mark.parametrize(
    ("record", "said"),
    [
        pytest.param("r", "is 'r'", id="no-object"),
        pytest.param({"label": 1}, "'[2].request_id' is missing", id="no-request-id"),
        pytest.param({"request_id": "r"}, "'[2].label' is missing", id="no-label"),
        pytest.param({"request_id": "", "label": 1}, "'[2].request_id' is ''", id="empty-request-id"),
        pytest.param({"request_id": 7, "label": 1}, "'[2].request_id' is 7", id="request-id-of-wrong-type"),
        pytest.param({"request_id": "\x1fr", "label": 1}, "printable ones", id="a-key-s-separator"),
        pytest.param({"request_id": "r" * 257, "label": 1}, "1 to 256 characters", id="request-id-too-long"),
        pytest.param({"request_id": "r", "label": 2}, "'[2].label' is 2", id="label-out-of-range"),
        pytest.param({"request_id": "r", "label": "1"}, "'[2].label' is '1'", id="label-as-text"),
        pytest.param({"request_id": "r", "label": None}, "'[2].label' is None", id="label-null"),
        pytest.param({"request_id": "r", "label": 0.5}, "'[2].label' is 0.5", id="label-between"),
        pytest.param({"request_id": "r", "label": [1]}, "'[2].label' is [1]", id="label-a-list"),
        pytest.param({"request_id": "r", "label": 1, "at": "soon"}, "'[2].at' is 'soon'", id="time-nonsense"),
        pytest.param(
            {"request_id": "r", "label": 1, "at": "2013-02-01T06:00:00"},
            "with its zone",
            id="time-without-zone",
        ),
        pytest.param({"request_id": "r", "label": 1, "at": True}, "'[2].at' is True", id="time-boolean"),
        pytest.param({"request_id": "r", "lable": 1}, "'[2].lable' is not known", id="misspelt-field"),
    ],
)
def test_wrong_feedback_is_refused_by_the_name_of_its_field(record: object, said: str) -> None:
    with pytest.raises(UsageError) as error:
        validate(record, now=0.0, place="[2].")
    assert said in str(error.value)


def test_the_log_keeps_when_a_label_arrived_beside_what_its_sender_says() -> None:
    """Verify that a batch sent late says so, and that lines from before this was noted are still read."""
    label = validate({"request_id": "r", "label": 1, "at": 5}, now=99.0)
    assert parse(plain(label)) == label
    assert (label.at, label.received) == (5.0, 99.0)
    assert parse({"request_id": "r", "label": 1, "at": 5}).received is None


def test_when_it_arrived_is_not_its_senders_to_say() -> None:
    with pytest.raises(UsageError, match="'received' is not known"):
        validate({"request_id": "r", "label": 1, "received": 5}, now=99.0)


def test_the_first_label_is_kept_and_the_others_are_counted() -> None:
    book = LabelBook()
    outcomes = [book.record(Label("r", label, at)) for label, at in ((1, 10.0), (1, 11.0), (0, 12.0))]
    assert outcomes == [Recorded.KEPT, Recorded.REPEATED, Recorded.CONTRADICTED]
    assert book.get("r") == Label("r", 1, 10.0)
    assert (len(book), book.repeated, book.contradicted) == (1, 1, 1)


def test_what_a_caller_sends_of_a_label_is_what_the_collector_takes():
    """Verify every field there is, but when it arrived: that is for the collector to say."""
    label = Label("r1", 1, 1000.0, reward=2.5, per=3.0, covariate=0.5, received=1001.0)
    assert validate(sent(label), now=1001.0) == label
    assert parse(plain(label)) == label
    with pytest.raises(UsageError, match="received"):
        validate(plain(label), now=1001.0)
