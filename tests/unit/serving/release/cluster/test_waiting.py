"""How long a controller is waited for, on a clock that only waiting moves."""

from __future__ import annotations

import pytest

from serving.release.cluster.waiting import Patience

YES, NO, SILENT = True, False, None


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
    now = 1000.0
    questions = 0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def ask() -> tuple[bool | None, str]:
        nonlocal questions
        questions += 1
        return answers[questions - 1], "why"

    patience = Patience(within_s=10.0, refused_for_s=3.0, every_s=1.0, clock=lambda: now, sleep=sleep)
    assert patience.until(ask) == outcome
    assert questions == asked
