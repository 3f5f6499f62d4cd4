"""From shares to the router's integer percents: the exploration floor, and rounding that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from windlass.errors import UsageError

#: Remainders closer than this are a tie: the last digits of a sum must not move traffic.
TIE = 1e-9


def floored(shares: Sequence[float], floor: float) -> list[float]:
    """The shares (sum 1) lifted to at least `floor` each (a share of 1).

    Each becomes max(floor, c share) with the c that keeps the sum 1: of all allocations with that floor, the
    nearest to `shares` in Kullback-Leibler divergence. The usual mixture `floor + (1 - n floor) share` pays for
    the floor twice, since a version above the floor explores already.

    Raises:
        UsageError: more floors than traffic.
    """
    n = len(shares)
    if n * floor > 1 + TIE:
        raise UsageError(
            f"bandit: a floor of {100 * floor:g} % for {n} versions is more than all traffic; "
            f"at most {100 // n} is possible"
        )
    # smallest first: once a share stays above the floor, every larger one does
    order = sorted(range(n), key=lambda i: (shares[i], i))
    left, mass = 1.0, sum(shares)
    result = [0.0] * n
    for i in order:
        lifted = left * shares[i] / mass if mass > 0 else 0.0
        result[i] = max(floor, lifted)
        left, mass = left - result[i], mass - shares[i]
    return result


def percents(shares: Mapping[str, float], previous: Mapping[str, int]) -> dict[str, int]:
    """Integers that sum to 100, by largest remainder (Hamilton's method): none is off by 1 or more.

    A tie of remainders goes to the version with the larger previous weight, then to the earlier one, so that equal
    evidence does not move traffic.
    """
    exact = {version: 100 * share for version, share in shares.items()}
    rounded = {version: int(value + TIE) for version, value in exact.items()}
    missing = 100 - sum(rounded.values())
    place = {version: i for i, version in enumerate(shares)}

    def claim(version: str) -> tuple[float, int, int]:
        remainder = round((exact[version] - rounded[version]) / TIE)
        return -remainder, -previous.get(version, 0), place[version]

    for version in sorted(shares, key=claim)[:missing]:
        rounded[version] += 1
    return rounded
