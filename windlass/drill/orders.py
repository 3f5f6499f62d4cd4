"""Made-up orders of an online shop, some weeks to train on and some days that are live, until a drill moves them.

The days are in the past, so the platform's clock stands at the end of what was learned and requests say their own time:
two weeks of traffic are served in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass import atomic

if TYPE_CHECKING:
    import pandas as pd

#: The first live day: what came before is learned.
LIVE = datetime(2026, 5, 1, tzinfo=UTC)
LEARNED_DAYS, LIVE_DAYS = 50, 14
PER_DAY = 60
SHOPS = 20
COLOURS = ("blue", "green", "red")
SENT = ("shop", "price", "weight", "colour")


@dataclass(frozen=True)
class Order:
    """What a caller asks, when (epoch seconds), and what will become of it."""

    fields: dict[str, Any]
    at: float
    returned: float


def rows(first: datetime, days: int, *, seed: int, dearer: float = 1.0) -> pd.DataFrame:
    """`days` days of orders, oldest first; how likely one comes back depends on shop, price, weight and colour.

    Args:
        dearer: factor on the prices; what they mean for a return stays the same.
    """
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(seed)
    count = days * PER_DAY
    shop = random.integers(0, SHOPS, count)
    price = (dearer * random.gamma(3.0, 10.0, count)).round(2)
    weight, colour = random.gamma(2.0, 1.0, count).round(3), random.choice(COLOURS, count)
    rate = np.linspace(0.05, 0.6, SHOPS)[shop]
    logit = np.log(rate / (1 - rate)) + 0.06 * (price - 30) - 0.5 * (weight - 2) + 0.9 * (colour == "red")
    returned = (random.random(count) < 1 / (1 + np.exp(-logit))).astype(float)
    seconds = np.sort(random.uniform(0, days * 86400, count))
    at = (pd.Timestamp(first) + pd.to_timedelta(seconds, "s")).as_unit("us").floor("s")
    # a number that no other day's order has
    first_id = int(first.timestamp()) // 86400 * 100_000
    return pd.DataFrame(
        {
            "order_id": np.arange(first_id, first_id + count),
            "at": at,
            "shop": shop,
            "price": price,
            "weight": weight,
            "colour": colour,
            "returned": returned,
        }
    )


def everything() -> pd.DataFrame:
    """What is learned, and the live days that follow."""
    import pandas as pd

    before = rows(LIVE - timedelta(days=LEARNED_DAYS), LEARNED_DAYS, seed=7)
    return pd.concat([before, live()], ignore_index=True)


def live() -> pd.DataFrame:
    """The calm live days."""
    return rows(LIVE, LIVE_DAYS, seed=8)


def extend(path: Path, frame: pd.DataFrame) -> None:
    """Add rows to a file of orders, all or nothing."""
    import pandas as pd

    with atomic.replacing(path) as temporary:
        pd.concat([pd.read_parquet(path), frame], ignore_index=True).to_parquet(temporary, index=False)


def asked(frame: pd.DataFrame) -> list[Order]:
    """The requests of the callers whose orders these are."""
    return [
        Order(
            {**{name: row[name] for name in SENT}, "shop": str(row["shop"])},
            row["at"].timestamp(),
            row["returned"],
        )
        for row in frame.to_dict("records")
    ]


def now(count: int, seed: int) -> list[Order]:
    """`count` requests of the day after the live ones."""
    days = -(-count // PER_DAY)
    return asked(rows(LIVE + timedelta(days=LIVE_DAYS), days, seed=seed))[:count]
