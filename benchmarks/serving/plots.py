"""The result as pictures: what a request costs, how fast it is, and how the targets stand.

Ours is orange, the floors are blue, everybody else is grey: the question of every panel is where ours stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.serving.results import NAMES
from windlass.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, FLOOR, PEER = "#c2410c", "#3b82f6", "#94a3b8"
FLOORS = ("minimal", "asyncio", "constant", "bare")
CPU, RATE, P99 = NAMES["cpu_s"], NAMES["rate"], NAMES["p99_ms"]
MARKS = ("o", "D", "s", "^", "v", "P")
TYPES = ("png", "svg")

Table = dict[str, dict[str, dict[str, Any]]]


def write(found: dict[str, Any], folder: Path) -> None:
    """Draw every picture for which there are figures, as PNG and SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "windlass",
            "svg.fonttype": "none",
        }
    )
    table = by_load(found["measurements"])
    if table:
        _save(costs(table), folder / "serving-cpu")
        _save(latencies(table), folder / "serving-latency")


def by_load(measurements: Sequence[dict[str, Any]]) -> Table:
    """Load -> contender -> name -> measurement."""
    table: Table = {}
    for row in measurements:
        if "load" in row:
            table.setdefault(row["load"], {}).setdefault(row["contender"], {})[row["name"]] = row
    return table


def costs(table: Table) -> Figure:
    """CPU seconds per 1,000 requests: a panel for each load at concurrency 16, the cheapest on top."""
    from matplotlib import pyplot

    loads = [load for load in table if load.endswith("concurrency 16")] or list(table)[:1]
    heights = [len(table[load]) for load in loads]
    figure, axes = pyplot.subplots(
        len(loads), figsize=(9, 1.1 * len(loads) + 0.32 * sum(heights)), height_ratios=heights, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax, load in zip(axes[:, 0], loads, strict=True):
        _bars(ax, table[load], CPU)
        ax.set_title(load, loc="left", fontweight="bold")
    axes[-1, 0].set_xlabel(
        "CPU seconds of the server per 1,000 requests (logarithmic; bar: median, line: rounds)"
    )
    return figure


def latencies(table: Table) -> Figure:
    """p99 and requests a second of one row: a line for each contender, a mark on it for each concurrency."""
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    loads = [load for load in table if load.startswith("1 row,")] or list(table)
    reference = loads[len(loads) // 2]
    rows = sorted(table[reference], key=lambda name: -table[reference][name][P99]["value"])
    figure, axes = pyplot.subplots(
        1, 2, figsize=(13, 1.8 + 0.34 * len(rows)), sharey=True, layout="constrained"
    )
    for ax, what, label in zip(axes, (P99, RATE), ("latency p99, ms", "requests per second"), strict=True):
        for name in rows:
            points = [table[load][name][what]["value"] for load in loads if name in table[load]]
            ax.plot(points, [name] * len(points), color=colour(name), linewidth=1.5, zorder=2)
            for mark, point in zip(MARKS, points, strict=False):
                ax.plot(point, name, mark, color=colour(name), markersize=7, zorder=3)
        ax.set_title(f"{label} (logarithmic)", loc="left", fontweight="bold")
        _logarithmic(ax)
        ax.grid(color="#e2e8f0", zorder=0)
    _highlight(axes[0])
    legend = [
        Line2D([], [], linestyle="", marker=mark, color=PEER, label=load.removeprefix("1 row, "))
        for mark, load in zip(MARKS, loads, strict=False)
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
    return figure


def colour(contender: str) -> str:
    if contender.startswith("Windlass"):
        return OURS
    return FLOOR if contender.startswith(FLOORS) else PEER


def _bars(ax: Axes, rows: dict[str, dict[str, Any]], what: str) -> None:
    ordered = sorted(rows, key=lambda name: -rows[name][what]["value"])
    values = [rows[name][what] for name in ordered]
    medians = [row["value"] for row in values]
    spread = [[row["value"] - row["low"] for row in values], [row["high"] - row["value"] for row in values]]
    ax.barh(ordered, medians, color=[colour(name) for name in ordered], height=0.7)
    ax.errorbar(medians, ordered, xerr=spread, fmt="none", ecolor="#334155", elinewidth=1)
    _logarithmic(ax)
    ax.margins(x=0.15)
    for name, row in zip(ordered, values, strict=True):
        ax.annotate(
            f"{row['value']:.3f}", (row["high"], name), xytext=(6, 0), textcoords="offset points", va="center"
        )
    _highlight(ax)


def _logarithmic(ax: Axes) -> None:
    """A logarithmic scale in plain numbers: 0.1, 1, 10."""
    from matplotlib.ticker import FuncFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,g}"))


def _highlight(ax: Axes) -> None:
    for text in ax.get_yticklabels():
        if text.get_text().startswith("Windlass"):
            text.set(color=OURS, fontweight="bold")


def _save(figure: Figure, stem: Path) -> None:
    from matplotlib import pyplot

    for kind in TYPES:
        with replacing(stem.with_suffix(f".{kind}")) as temporary:
            figure.savefig(temporary, format=kind, dpi=150)
    pyplot.close(figure)
