"""Two concurrent arms of zeros and ones: evidence that the candidate's rate exceeds the champion's by too much.

Between two looks each arm answered some requests and some of them were events (errors, or answers slower than a
bound). Requests went to the arms by chance, so whatever befalls both arms alike - a slow disk, a burst of bad
requests - falls on them in proportion to their shares, at any rate and however the rate moves. The bet is only
on who gets the events:

    candidate's event  1 + lambda (1/w - excess)        w: the candidate's share of the requests of this look
    champion's event   1 - lambda (1/(1-w) + excess)
    neither            1 - lambda excess

Its expectation per request is 1 + lambda (p_candidate - p_champion - excess), at most 1 under the claim
"the candidate's rate is at most the champion's plus `excess`". That w is the share that came out, not the one
decided, only lowers it: drawing without replacement makes assignments negatively associated (W. Hoeffding, JASA
58 (1963) Theorem 4; K. Joag-Dev and F. Proschan, Annals of Statistics 11 (1983) 2.11), and the factors rise in
them. For excess 0 the process is the conditional test of each event's arm, as in J. ter Schure, M. Perez-Ortiz,
A. Ly and P. Gruenwald, "The safe logrank test", New England Journal of Statistics in Data Science 2 (2024) 190-214;
for an excess it bets on inverse-propensity differences with the capital process of Theorem 3 of I. Waudby-Smith and
A. Ramdas, JRSS B 86 (2024) 1-27.

Mirrored requests, which both arms answer, are covered as well: there w = 1/2, and the product over a pair is at most
1 in expectation whatever the two answers have to do with each other.

**Spells.** Nothing here needs requests to be independent of each other, only of the coin that gave them their arm. A
burst of errors or a stall of the machine that hits whatever is in flight, of both arms, falls on them in proportion
however many answers it takes with it, and is blamed on nobody: under "the arms are alike" the answers are what they
are and only the arms are drawn. What is not covered is a spell of one arm alone. If each version's own process stalls
now and then, both equally often, then a stall makes a handful of answers of one arm slow at once, and at 10 % of the
traffic three of them are evidence enough, although it is one event. `watch` and `log_evidence_beyond_a_spell` are for
that: the look that speaks most against the candidate counts as one event. Several such stalls before the champion has
had its first are still held against the candidate: they cannot be told from a fault of its own. Nor is a coin covered
that is tossed once for many requests: where users are assigned, count users, each at its first event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from serving.release.statistics import betting

#: Fractions of the largest bet that cannot go bankrupt; the wealth starts in equal shares.
FRACTIONS = (0.02, 0.05, 0.12, 0.25, 0.4, 0.6, 0.8, 0.95)


@dataclass(frozen=True)
class Batch:
    """What the arms answered between two looks."""

    candidate: int
    candidate_events: int
    champion: int
    champion_events: int

    def swapped(self) -> Batch:
        return Batch(self.champion, self.champion_events, self.candidate, self.candidate_events)


#: Log wealth of each fraction.
Wealth = tuple[float, ...]

START: Wealth = (0.0,) * len(FRACTIONS)

#: Where a spell is forgiven, the shares of the starting wealth: more for the bets that are best against what
#: guardrails must find soon, rates that grow two- to tenfold at 5 to 50 % of the traffic.
SHARES = (0.03, 0.05, 0.12, 0.25, 0.25, 0.15, 0.1, 0.05)

#: The most events of one look that are forgiven. Beyond it the look is no mishap any more.
SPELL = 8


@dataclass(frozen=True)
class Guard:
    """The wealth, and what the look that spoke most against the candidate brought it.

    Attributes:
        spell: of each fraction, the most that the candidate's events of one look beyond the first, at most `SPELL` of
            them, have earned.
    """

    wealth: Wealth = START
    spell: Wealth = START


def add(wealth: Wealth, batch: Batch, excess: float) -> Wealth:
    """The wealth after `batch`, against "candidate's rate <= champion's rate + `excess`".

    A batch in which one arm answered nothing says nothing about the difference: the caller keeps its counts for
    the next look.

    Raises:
        ValueError: such a batch, or an excess that no difference of rates can have.
    """
    return _after(wealth, batch, _gains(batch.candidate, batch.champion, excess))


def watch(guard: Guard, batch: Batch, excess: float) -> Guard:
    """`add`, which also remembers the worst look, so that `log_evidence_beyond_a_spell` can forgive it.

    Raises:
        ValueError: as `add`.
    """
    gains = _gains(batch.candidate, batch.champion, excess)
    spell, hit = guard.spell, min(batch.candidate_events - 1, SPELL)
    if hit > 0:
        spell = tuple(
            max(worst, hit * (ours - quiet)) for worst, (ours, _, quiet) in zip(spell, gains, strict=True)
        )
    return Guard(_after(guard.wealth, batch, gains), spell)


def log_evidence(wealth: Wealth) -> float:
    """Log of the e-value of the equal mixture over the fractions."""
    return betting.log_sum(wealth) - math.log(len(wealth))


def log_evidence_beyond_a_spell(guard: Guard) -> float:
    """Log of the evidence that remains when the worst look counts as one event of the candidate.

    Valid as `log_evidence` is, since each bet is left with at most what it won; the mixture has `SHARES`.
    """
    return betting.log_sum(
        [
            held - spell + math.log(share)
            for held, spell, share in zip(guard.wealth, guard.spell, SHARES, strict=True)
        ]
    )


def rebalanced(guard: Guard) -> Guard:
    """The same wealth, in equal shares again: what was lost on large bets does not blind them to what comes.

    To be used when what both arms suffered is over (an outage costs the large bets all they have). Moving wealth
    between bets before a look is a bet as fair as any: the sum is what Ville's inequality is about.
    """
    return Guard((log_evidence(guard.wealth),) * len(guard.wealth), guard.spell)


#: By fraction, the log of the factors of a candidate's event, a champion's event and of neither.
_Gains = tuple[tuple[float, float, float], ...]


@lru_cache(maxsize=4096)  # looks of some requests are of few sizes
def _gains(candidate: int, champion: int, excess: float) -> _Gains:
    if not (candidate > 0 and champion > 0):
        raise ValueError("a batch needs requests of both arms")
    if not -1 < excess < 1:
        raise ValueError(f"excess {excess!r} is not between -1 and 1")
    share = candidate / (candidate + champion)
    largest = 1 / (1 / (1 - share) + excess)
    return tuple(
        (
            math.log1p(fraction * largest * (1 / share - excess)),
            math.log1p(-fraction),
            math.log1p(-fraction * largest * excess),
        )
        for fraction in FRACTIONS
    )


def _after(wealth: Wealth, batch: Batch, gains: _Gains) -> Wealth:
    neither = batch.candidate + batch.champion - batch.candidate_events - batch.champion_events
    return tuple(
        held + batch.candidate_events * ours + batch.champion_events * theirs + neither * quiet
        for held, (ours, theirs, quiet) in zip(wealth, gains, strict=True)
    )
