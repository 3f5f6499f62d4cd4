"""A person's command to a trigger that runs elsewhere: its decision comes back, what goes wrong has a remedy."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from retrain_service import MODEL, TOKEN, WAIT_S, Served, alert, free_port, notification

from monitoring.retrain import journal
from monitoring.retrain.service import client, events
from monitoring.retrain.signals import Signal
from windlass.cli import app
from windlass.contract import RetrainPolicy
from windlass.errors import UsageError, WindlassError
from windlass.journal import read
from windlass.settings import Settings


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path / "home", RetrainPolicy(concurrency=9, per_day=9)) as made:
        made.start()
        made.until_ready()
        yield made


def records(served: Served, event: str) -> list[dict[str, Any]]:
    path = journal.path(Settings(home=served.home, project=served.home))
    return [r for r in read(path) if r["event"] == event] if path.exists() else []


class Person:
    """`windlass retrain flights … --url` of a served trigger."""

    def __init__(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        self._words = ["--url", f"http://127.0.0.1:{served.port}", "--token-file", str(served.home / "token")]
        self._capsys = capsys

    def says(self, *words: str, code: int = 0, to: list[str] | None = None) -> dict[str, Any]:
        answered = app.run(["retrain", MODEL, *words, *(self._words if to is None else to), "--json"])
        said = self._capsys.readouterr()
        assert answered == code, said
        found: dict[str, Any] = json.loads(said.out)
        return found


@pytest.fixture
def ana(served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Person:
    for name in (
        "WINDLASS_TRIGGER_URL",
        "WINDLASS_TRIGGER_TOKEN",
        "WINDLASS_RETRAIN_TOKEN_FILE",
        "WINDLASS_NAMESPACE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    return Person(served, capsys)


def test_a_retraining_is_asked_for_and_insisted_on(served: Served, ana: Person) -> None:
    """Verify that the running trigger decides, by its own policy and journal, and that --override reaches it."""
    (first,) = ana.says("--trials", "3", "--no-release")["signals"]
    assert first["accepted"] and first["trigger"].startswith(f"retrain-{MODEL}-")
    (held,) = ana.says()["signals"]
    assert (held["accepted"], held["rule"], held["held"]) == (False, "cooldown", False)
    (insisted,) = ana.says("--override")["signals"]
    assert insisted["accepted"] and insisted["trigger"] != first["trigger"]
    noted = {r["id"]: r for r in records(served, "accepted")}
    assert noted[first["trigger"]]["detail"]["trials"] == 3
    assert noted[first["trigger"]]["detail"]["release"] is False
    assert noted[insisted["trigger"]]["override"] is True


def test_a_word_closes_what_nothing_comes_of_and_asks_for_no_run(
    served: Served, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify it for a user without a name too, as a pod's is."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    (begun,) = ana.says("--no-release")["signals"]
    told = ana.says("--give-up", "retrain-flights-000000000000", code=2)
    assert "is not open; open: " in told["error"]["message"] and begun["trigger"] in told["error"]["message"]
    (said,) = ana.says("--give-up", begun["trigger"])["words"]
    assert said == f"{begun['trigger']} is given up by a person"
    (closed,) = records(served, "resolved")
    assert (closed["id"], closed["helped"]) == (begun["trigger"], False)
    assert len(records(served, "accepted")) == 1
    assert "is not open; open: none" in ana.says("--give-up", begun["trigger"], code=2)["error"]["message"]


def test_repaired_data_lets_go_of_what_it_held(served: Served, ana: Person) -> None:
    """Verify that an alert that nobody ends ends by a person's word, and that what waited for it is decided then."""
    now = datetime.now(UTC).isoformat()
    broken = alert(now, model=MODEL, version="3", signal="dataQuality")
    drifted = alert(now, model=MODEL, version="3", signal="featureDrift")
    served.deliver(notification(broken, drifted), lambda: None)
    assert records(served, "accepted") == []
    assert ana.says("--data-repaired")["words"] == [
        f"{MODEL}: 1 alerts about its data count as ended: said by {_user()}"
    ]
    deadline = time.monotonic() + WAIT_S
    while not records(served, "accepted"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert records(served, "accepted")[0]["kind"] == "featureDrift"


def _user() -> str:
    import getpass

    return getpass.getuser()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--give-up", "x", "--override"], "ask for no retraining", id="word-and-override"),
        pytest.param(["--data-repaired", "--trials", "3"], "ask for no retraining", id="word-and-trials"),
        pytest.param(["--trials", "0"], "leaves nothing to train", id="nothing-to-train"),
    ],
)
def test_what_cannot_be_meant_is_not_sent(ana: Person, served: Served, words: list[str], said: str) -> None:
    assert said in ana.says(*words, code=2)["error"]["message"]
    assert records(served, "accepted") == []


def test_a_trigger_that_cannot_be_spoken_to_is_named_with_the_remedy(
    served: Served, ana: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = f"http://127.0.0.1:{served.port}", str(served.home / "token")

    def refused(*to: str, code: int = 2) -> str:
        return str(ana.says(code=code, to=list(to))["error"]["message"])

    wrong = tmp_path / "wrong"
    wrong.write_text("another\n")
    assert "does not take this token" in refused("--url", url, "--token-file", str(wrong))
    assert "name the file of that trigger's token" in refused(
        "--url", url, "--token-file", str(tmp_path / "none")
    )
    assert "give --token-file" in refused("--url", url)
    assert "is no address" in refused("--url", "127.0.0.1", "--token-file", token)
    assert "name it by --url" in refused("--token-file", token)
    nobody = f"http://127.0.0.1:{free_port()}"
    assert "does not answer" in refused("--url", nobody, "--token-file", token, code=1)
    # in a pod whose releases are a cluster's, nothing is trained in a corner
    monkeypatch.setenv("WINDLASS_NAMESPACE", "team-a")
    assert "send it to the trigger" in refused()
    # and where the chart has said where it is, nothing need be said
    monkeypatch.setenv("WINDLASS_TRIGGER_URL", url)
    monkeypatch.setenv("WINDLASS_RETRAIN_TOKEN_FILE", token)
    assert ana.says(to=[])["signals"][0]["accepted"]


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (events.WORD, {"word": "sorry"}, "use dataRepaired or giveUp"),
        (events.WORD, {"word": "giveUp"}, "data.trigger"),
        (events.WORD, {"word": "dataRepaired", "trigger": "x"}, "leave it out"),
        (events.WORD, {"word": "dataRepaired", "why": "x"}, "data.why is unknown"),
        (events.WORD, {"workload": "trains", "word": "dataRepaired"}, "is not watched here"),
        (events.TYPE, {"kind": "newData", "override": True}, "true of a manual signal alone"),
        (events.TYPE, {"kind": "manual", "override": "yes"}, "data.override = 'yes'"),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused_with_its_place(
    served: Served, kind: str, data: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        client.post(f"http://127.0.0.1:{served.port}", TOKEN, kind, "e1", {"workload": MODEL, **data})


def test_an_answer_of_somebody_else_is_no_success(served: Served) -> None:
    with pytest.raises(WindlassError):
        client.post(f"http://127.0.0.1:{served.port}/metrics?", TOKEN, events.TYPE, "e1", {})


def test_on_this_machine_a_word_is_journaled_and_asks_for_no_run(
    tmp_path: Path, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that whoever closes a trigger, or says that the data is in order, trains nothing by it."""
    home = Settings(home=tmp_path / "here", project=tmp_path)
    monkeypatch.setenv("WINDLASS_HOME", str(home.home))
    trigger = journal.Trigger(MODEL, RetrainPolicy(), journal.path(home), lambda name, _: f"run:{name}")
    now = datetime.now(UTC)
    begun = trigger.offer(Signal("manual", "manual/1", now), now, live_release=False)
    broken = Signal("dataQuality", "dataQuality/3", now, champion="3")
    trigger.offer(broken, now, live_release=False)
    assert "open; open: " in ana.says("--give-up", "another", code=2, to=[])["error"]["message"]
    assert ana.says("--give-up", str(begun.trigger), to=[])["words"] == [f"{begun.trigger} is given up"]
    said = ana.says("--data-repaired", to=[])["words"]
    assert said == [f"{MODEL}: 1 alerts about its data count as ended"]
    events_ = [r["event"] for r in read(journal.path(home)) if r["event"] != "clock"]
    assert events_ == ["accepted", "submitted", "refused", "resolved", "cleared"]
