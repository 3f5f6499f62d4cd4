"""The outcome of a check, the same three words wherever a window or a version is judged."""

from typing import Literal

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
