"""What one check says at one look, with the evidence it says it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]


@dataclass(frozen=True)
class Verdict:
    """One check of one candidate at one look.

    Attributes:
        kind: "guardrail", "decision", "secondary", or "integrity" of a check that the engine adds itself.
        n: observations of the candidate (pairs for a paired metric, the smaller arm for an effect).
        estimate: the candidate's rate, the excess over the champion's, the mean paired difference, or the effect.
        lower, upper: each a bound at level 1 - alpha that holds at all looks together; of a comparison of arms
            the interval combines each arm's own and is wider than the test that decides.
        bound: what the estimate is held to.
        evidence: how many times likelier the data are if the check fails than under any state in which it
            should not (an e-value; 1/alpha of it decides); None where the interval itself decides.
        rule: which rule decides, in words.
        reason: the verdict in words, with its numbers.
        version: the candidate that was judged; None of a check of the whole release.
    """

    check: str
    kind: str
    outcome: Outcome
    n: int
    rule: str
    reason: str
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    bound: float | None = None
    evidence: float | None = None
    version: str | None = None
