"""The parts' charts as pictures, PNG and SVG: ours are shades of orange, what stands beside them is not."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.release.parts import Chart
from windlass.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = ("#c2410c", "#fb923c", "#7c2d12", "#fdba74", "#ea580c")
OTHERS = ("#3b82f6", "#94a3b8", "#0f766e", "#a855f7", "#64748b", "#eab308")
TYPES = ("png", "svg")


def write(pictures: dict[str, dict[str, Any]], folder: Path) -> None:
    """Draw every picture of every part."""
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
    for drawn in pictures.values():
        for name, charts in drawn.items():
            panels = charts if isinstance(charts, list) else [charts]
            figure, axes = pyplot.subplots(
                1, len(panels), figsize=(6.2 * len(panels), 4.2), squeeze=False, layout="constrained"
            )
            for ax, chart in zip(axes[0], panels, strict=True):
                draw(ax, chart)
            for kind in TYPES:
                with replacing((folder / f"release-{name}").with_suffix(f".{kind}")) as temporary:
                    figure.savefig(temporary, format=kind, dpi=150)
            pyplot.close(figure)


def draw(ax: Axes, chart: Chart) -> None:
    """One panel."""
    colours = {True: itertools.cycle(OURS), False: itertools.cycle(OTHERS)}
    for number, (name, (xs, ys)) in enumerate(chart.series.items()):
        colour = next(colours[name.startswith("windlass")])
        if chart.kind == "bar":
            width = 0.8 / len(chart.series)
            places = [place + width * (number - (len(chart.series) - 1) / 2) for place in range(len(xs))]
            ax.bar(places, ys, width=width, color=colour, label=name)
            ax.set_xticks(range(len(xs)), [textwrap.fill(str(x), 14) for x in xs], fontsize=8)
        elif chart.kind == "step":
            ax.step(xs, ys, where="post", color=colour, label=name)
        else:
            ax.plot(xs, ys, color=colour, label=name)
    if chart.bound is not None:
        ax.axhline(chart.bound, color="#334155", linestyle="--", linewidth=1, label=f"target {chart.bound:g}")
    if "x" in chart.log:
        ax.set_xscale("log")
    if "y" in chart.log:
        ax.set_yscale("log")
    ax.set_title(chart.title, loc="left", fontweight="bold")
    ax.set(xlabel=chart.x, ylabel=chart.y)
    ax.grid(axis="y", color="#e2e8f0", zorder=0)
    ax.legend(frameon=False, fontsize=8)
