"""How long a controller is waited for, on a clock that only waiting moves."""

from __future__ import annotations

import pytest

from serving.release.backend import UnconfirmedError
from serving.release.cluster.waiting import Patience, Trial

YES, NO, SILENT = True, False, None


class Time:
    """Seconds; a second goes by after each question."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.trial = Trial(Patience(within_s=10.0, refused_for_s=3.0, clock=lambda: self.now))

    def outcome(self, answers: list[bool | None]) -> tuple[str | None, int]:
        """What comes of them, and after how many of them."""
        for asked, answer in enumerate(answers, 1):
            try:
                return self.trial.outcome(answer, "why"), asked
            except UnconfirmedError as error:
                assert str(error) == "why"
                self.now += 1.0
        raise AssertionError("it is not over")


@pytest.mark.parametrize(
    ("answers", "outcome", "asked"),
    [
        pytest.param([YES], None, 1, id="at-once"),
        pytest.param([SILENT, SILENT, YES], None, 3, id="after-a-while"),
        pytest.param([NO, NO, YES], None, 3, id="a-no-that-turns"),
        pytest.param([NO] * 9, "why", 4, id="a-lasting-no"),
        pytest.param([NO, NO, SILENT, NO, NO, SILENT, YES], None, 7, id="a-no-that-is-taken-back"),
        pytest.param([SILENT] * 30, "why (waited 10 s)", 11, id="silence"),
        pytest.param([SILENT] * 10 + [YES], None, 11, id="at-the-last-moment"),
    ],
)
def test_a_controller_is_waited_for(answers: list[bool | None], outcome: str | None, asked: int) -> None:
    """Verify that a lasting no ends the waiting early, that silence is waited out, and that a yes counts to the end."""
    assert Time().outcome(answers) == (outcome, asked)


def test_a_time_in_which_nobody_could_be_asked_does_not_count() -> None:
    """Verify that neither silence nor a no from before an outage ends the waiting after it."""
    time = Time()
    with pytest.raises(AssertionError, match="not over"):
        time.outcome([NO, NO])
    time.now += 60.0
    time.trial.begin()
    assert time.outcome([NO] * 9) == ("why", 4)


@pytest.mark.parametrize(("answer", "refused"), [(NO, True), (SILENT, False)])
def test_a_refusal_is_no_silence(answer: bool | None, refused: bool) -> None:
    """Verify that who gives up can tell a no from a word that never came."""
    time = Time()
    assert time.outcome([answer] * 30)[0] is not None
    assert time.trial.refused is refused
