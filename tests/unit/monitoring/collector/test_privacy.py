"""Personal values: dropped or hashed before anything of them is on a disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from event_store import NOON

from monitoring.collector import privacy
from monitoring.collector.intake import Intake
from monitoring.collector.names import Names
from monitoring.collector.privacy import KeyMissingError, Privacy
from windlass import catalog, contract
from windlass.errors import UsageError, WindlassError
from windlass.settings import Settings

SECRET = b"sixteen bytes or more"
RULES = {"tailnum": "hash", "carrier": "drop", "distance": "drop"}


class Stated(Names):
    """The flights workload with rules of its own."""

    def workload(self, model: str) -> Any:
        found = super().workload(model)
        return None if found is None else replace(found, privacy=RULES)


def intake(tmp_path: Path, project: Path, secret: bytes | None) -> Intake:
    return Intake(Stated(Settings(home=tmp_path, project=project)), secret, lambda: NOON)


def record(project: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    inputs = catalog.load("flights", project).model_inputs
    return {
        "request_id": "a", "model": "flights", "version": "1", "at": NOON,
        "entities": {"tailnum": "N123AA", "carrier": "AA", "origin": "JFK"},
        "request": {"distance": 2475.0, "carrier": "AA", "origin": "JFK"},
        "features": [float(n + 1) for n in range(len(inputs))], "score": 0.5,
    }, inputs  # fmt: skip


def test_nothing_personal_reaches_the_journal(tmp_path: Path, project: Path) -> None:
    """Verify entities, request fields and the places of the vector that they became, in what would be written."""
    sent, inputs = record(project)
    (row,) = intake(tmp_path, project, SECRET).predictions(orjson.dumps(sent))
    assert row["entities"] == {"tailnum": privacy.hashed(SECRET, "tailnum", "N123AA"), "origin": "JFK"}
    assert row["request"] == {"origin": "JFK"}
    gone = [name for name, value in zip(inputs, row["features"], strict=True) if value is None]
    assert sorted(gone) == ["carrier", "distance"]
    written = orjson.dumps(row).decode()
    assert "N123AA" not in written and "2475" not in written and '"AA"' not in written


def test_events_are_cleaned_like_lines(tmp_path: Path, project: Path) -> None:
    """Verify a request's half, which names its values."""
    headers = {
        "ce-specversion": "1.0", "ce-id": "a", "ce-source": "/s", "ce-inferenceservicename": "flights",
        "ce-type": "org.kubeflow.serving.inference.request",
    }  # fmt: skip
    body = {"instances": [{"tailnum": "N123AA", "distance": 2475.0, "day_of_week": 3}]}
    (half,) = intake(tmp_path, project, SECRET).events(headers, orjson.dumps(body))
    assert half["rows"][0]["request"] == {"day_of_week": 3}
    assert half["rows"][0]["entities"] == {"tailnum": privacy.hashed(SECRET, "tailnum", "N123AA")}
    unnamed = {"instances": [["N123AA", 2475.0]]}
    (half,) = intake(tmp_path, project, SECRET).events(headers, orjson.dumps(unnamed))
    assert half["rows"] == [{"request": {}}], "values without a name may be anything"


def test_a_vector_of_another_width_is_dropped_whole(tmp_path: Path, project: Path) -> None:
    """Verify that a vector whose places nobody knows keeps no value."""
    sent, _ = record(project)
    (row,) = intake(tmp_path, project, SECRET).predictions(orjson.dumps({**sent, "features": [2475.0, 1.0]}))
    assert row["features"] == [None, None]


def test_what_is_nested_is_looked_through(tmp_path: Path, project: Path) -> None:
    """Verify that a personal column inside an object is found, and that members of a list have no name."""
    sent, _ = record(project)
    nested = {
        "leg": {"tailnum": "N123AA", "gate": 4, "seats": ["N123AA"]},
        "legs": [{"carrier": "AA", "gate": 5}, 2475],
    }
    (row,) = intake(tmp_path, project, SECRET).predictions(orjson.dumps({**sent, "request": nested}))
    hashed = privacy.hashed(SECRET, "tailnum", "N123AA")
    assert row["request"] == {
        "leg": {"tailnum": hashed, "gate": 4, "seats": [None]}, "legs": [{"gate": 5}, None],
    }  # fmt: skip
    deep = orjson.dumps(sent).replace(
        b'"request":{', b'"request":{"a":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b","
    )
    with pytest.raises(UsageError, match="is nested too deeply"):
        intake(tmp_path, project, SECRET).predictions(deep)
    assert Privacy("m", {}, None).applied({"request": nested}, ())["request"] == nested


def test_answers_that_repeat_what_was_asked_are_cleaned(tmp_path: Path, project: Path) -> None:
    """Verify that a model which echoes its inputs keeps neither them nor loses what it says itself."""
    echo = {"tailnum": "N123AA", "carrier": "AA", "classes": [0.2, {"0": 0.8, "distance": 2475.0}]}
    kept = {"tailnum": privacy.hashed(SECRET, "tailnum", "N123AA"), "classes": [0.2, {"0": 0.8}]}
    sent, _ = record(project)
    (row,) = intake(tmp_path, project, SECRET).predictions(orjson.dumps({**sent, "score": echo}))
    assert row["score"] == kept
    headers = {
        "ce-specversion": "1.0", "ce-id": "a", "ce-source": "/s", "ce-inferenceservicename": "flights",
        "ce-type": "org.kubeflow.serving.inference.response",
    }  # fmt: skip
    (half,) = intake(tmp_path, project, SECRET).events(headers, orjson.dumps({"predictions": [echo, 0.5]}))
    assert half["scores"] == [kept, 0.5]
    deep = b'{"predictions":[[' + b"[" * 1000 + b"]" * 1000 + b",1]]}"
    with pytest.raises(UsageError, match="nested too deeply"):
        intake(tmp_path, project, SECRET).events(headers, deep)


def test_a_width_that_does_not_fit_is_dropped_although_no_input_is_personal() -> None:
    """Verify that nobody guesses what a vector holds beyond the inputs that are known."""
    rules = Privacy("m", {"tailnum": "hash"}, SECRET)
    assert rules.applied({"features": [1.0, 2.0]}, ("a", "b"))["features"] == [1.0, 2.0]
    assert rules.applied({"features": [1.0, 2.0, 3.0]}, ("a", "b"))["features"] == [None] * 3


def test_without_a_key_nothing_is_taken(tmp_path: Path, project: Path) -> None:
    """Verify that a missing key refuses the workload instead of storing what should be hashed."""
    sent, _ = record(project)
    with pytest.raises(KeyMissingError, match="hashes \\['tailnum'\\] and there is no key"):
        intake(tmp_path, project, None).predictions(orjson.dumps(sent))
    Privacy("m", {"a": "drop"}, None)


def test_hashes_group_and_depend_on_key_and_column() -> None:
    """Verify that one value has one hash under one key and name."""
    assert privacy.hashed(SECRET, "a", "x") == privacy.hashed(SECRET, "a", "x")
    different = {
        privacy.hashed(SECRET, "a", "x"), privacy.hashed(SECRET, "b", "x"), privacy.hashed(SECRET, "a", "y"),
        privacy.hashed(SECRET + b"!", "a", "x"),
    }  # fmt: skip
    assert len(different) == 4
    assert all(len(value) == 32 for value in different)


@pytest.mark.parametrize(
    ("environ", "key", "said"),
    [
        pytest.param({}, None, None, id="none"),
        pytest.param({privacy.KEY: "k" * 16}, b"k" * 16, None, id="a-variable"),
        pytest.param({privacy.KEY_FILE: "good"}, SECRET, None, id="a-file"),
        pytest.param({privacy.KEY: "short"}, None, "has 5 bytes; use 16 or more", id="too-short"),
        pytest.param(
            {privacy.KEY_FILE: "absent"}, None, "cannot read WINDLASS_PRIVACY_KEY_FILE", id="no-file"
        ),
    ],
)
def test_where_the_key_comes_from(
    tmp_path: Path, environ: dict[str, str], key: bytes | None, said: str | None
) -> None:
    """Verify that it is read from a file or a variable, and that an error does not tell it."""
    (tmp_path / "good").write_bytes(SECRET + b"\n")
    given = {k: str(tmp_path / v) if k == privacy.KEY_FILE else v for k, v in environ.items()}
    if said is None:
        assert privacy.key(given) == key
    else:
        with pytest.raises(WindlassError, match=said) as refused:
            privacy.key(given)
        assert "short" not in str(refused.value).partition("has")[2]


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        pytest.param({"tailnum": "hash", "distance": "drop"}, None, id="fits"),
        pytest.param({"nobody": "drop"}, "privacy names 'nobody', which is neither", id="unknown"),
        pytest.param({"tailnum": "burn"}, "privacy of 'tailnum' is 'burn'; use hash or drop", id="another-way"),
        pytest.param({"distance": "hash"}, "privacy of 'distance' is 'hash', which", id="a-number"),
        pytest.param({"carrier": "drop"}, "slice 'carrier' is dropped by privacy", id="a-slice"),
    ],
)  # fmt: skip
def test_rules_are_held_to_the_workload(project: Path, rules: dict[str, Any], problem: str | None) -> None:
    """Verify that a workload whose rules contradict it is refused."""
    found = contract.check(replace(catalog.load("flights", project), privacy=rules))
    assert [p for p in found if problem is not None and p.startswith(problem)] == found
    assert bool(found) == (problem is not None)
