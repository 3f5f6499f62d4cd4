"""What a decision metric is asked and what has been found so far: plain values that go into the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from serving.release.statistics.mixture import BROAD, PLANNED, UNPLANNED_EFFECT, Mixture
from serving.release.statistics.moments import Moments

Kind = Literal["binary", "continuous", "ratio"]
Direction = Literal["increase", "decrease"]
Decided = Literal["better", "worse", "none"]

_LARGEST_LOSS = 0.9


@dataclass(frozen=True)
class Design:
    """The hypothesis of one metric of one candidate, stated before the first look.

    All effects are relative to the champion: a lift of 0.05 is 5 % more than the champion has.

    Attributes:
        kind: binary (each observation 0 or 1), continuous, or ratio (sum of y over sum of z).
        direction: which way the candidate would be better.
        alpha: chance of a false verdict over all looks, half of it for "better" and half for "worse".
        minimum_detectable_effect: the lift that the release should be able to see, without sign. None: bets are
            spread over a wide range, which takes about half as many observations again.
        margin: None for "is it better?". For "is it not worse by more than this?" the tolerated lift, without sign:
            "better" then says that the candidate loses less than the margin, "worse" that it loses more.
        min_samples: observations of each arm before anything is decided. The normal approximation behind continuous
            and ratio metrics needs them; binary ones are exact from the first.
        covariate: use the covariate in the moments to reduce the variance.
    """

    kind: Kind
    direction: Direction
    alpha: float
    minimum_detectable_effect: float | None
    margin: float | None = None
    min_samples: int = 100
    covariate: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("binary", "continuous", "ratio"):
            raise ValueError(f"kind {self.kind!r} is none of binary, continuous, ratio")
        if self.direction not in ("increase", "decrease"):
            raise ValueError(f"direction {self.direction!r} is neither increase nor decrease")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha {self.alpha!r} is not between 0 and 1")
        for name in ("minimum_detectable_effect", "margin"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 10:
                raise ValueError(f"{name} {value!r} is not a positive lift; 0.05 means 5 %")
        if self.direction == "increase" and (self.margin or 0) > _LARGEST_LOSS:
            raise ValueError(
                f"margin {self.margin!r} tolerates the loss of everything; state at most {_LARGEST_LOSS}"
            )

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.direction == "increase" else -1

    @property
    def null(self) -> float:
        """The lift that the candidate is held to: 0, or the tolerated loss."""
        return 0.0 if self.margin is None else -self.sign * self.margin

    @property
    def planned(self) -> float | None:
        """Distance of the planned lift from the null, without sign; None where no plan is stated.

        With a margin alone the plan is that of every non-inferiority trial: the candidate equals the champion.
        """
        if self.margin is None:
            return self.minimum_detectable_effect
        return self.margin + (self.minimum_detectable_effect or 0.0)

    @property
    def mixture(self) -> Mixture:
        return BROAD if self.planned is None else PLANNED

    @property
    def distance(self) -> float:
        """What the multiples of the mixture are multiples of."""
        return UNPLANNED_EFFECT if self.planned is None else self.planned


@dataclass(frozen=True)
class Evidence:
    """The state between two looks: numbers, texts and tuples only, so that JSON brings it back exactly.

    Attributes:
        candidate, champion: the cumulative moments that the evidence holds. Of a binary metric these stay behind
            while one of the arms answered nothing new.
        better, worse: log wealth of each bet of a binary metric; empty for others and before the first look.
        log_better, log_worse: log of the e-value against "not better" and against "not worse".
        decided: the verdict, kept once it was reached.
    """

    candidate: Moments = Moments()
    champion: Moments = Moments()
    better: tuple[float, ...] = ()
    worse: tuple[float, ...] = ()
    log_better: float = 0.0
    log_worse: float = 0.0
    decided: Decided = "none"

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Evidence:
        """Back from `dataclasses.asdict`, also by way of JSON."""
        told = dict(plain)
        for arm in ("candidate", "champion"):
            told[arm] = Moments(**told[arm])
        for side in ("better", "worse"):
            told[side] = tuple(told[side])
        return cls(**told)


START = Evidence()


@dataclass(frozen=True)
class Result:
    """What a look shows.

    Attributes:
        estimate: relative lift of the candidate; None while it cannot be told.
        lower, upper: confidence sequence of the lift: it holds at all looks at once with chance 1 - alpha. None
            where there is no bound yet.
        difference: candidate minus champion in the metric's own unit (with a covariate: adjusted); None likewise.
        log_better, log_worse: log of the e-values; a side is decided at log(2 / alpha).
    """

    n_candidate: int
    n_champion: int
    estimate: float | None
    lower: float | None
    upper: float | None
    difference: float | None
    log_better: float
    log_worse: float
    decided: Decided
