"""Pictures of the result, PNG and SVG: ours in orange, what stands beside it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from windlass.atomic import replacing

OURS = ("#c2410c", "#fb923c", "#7c2d12")
OTHERS = ("#3b82f6", "#94a3b8", "#0f766e")
PICTURES = {"rows/s": "rows a second", "peak memory": "MB resident at most"}


def write(document: dict[str, Any], folder: Path) -> None:
    """Draw rows a second and memory by the size of the window."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "windlass", "svg.fonttype": "none", "font.size": 10})
    figure, axes = pyplot.subplots(1, 2, figsize=(12.4, 4.4), layout="constrained")
    for ax, (name, label) in zip(axes, PICTURES.items(), strict=True):
        series: dict[str, list[tuple[int, float]]] = {}
        for row in document["measurements"]:
            if row["name"] == name:
                rows = int(row["case"].split()[0].replace(",", ""))
                series.setdefault(row["contender"], []).append((rows, row["value"]))
        colours = {True: iter(OURS), False: iter(OTHERS)}
        for contender, points in series.items():
            colour = next(colours[contender.startswith("windlass")])
            ax.plot(*zip(*sorted(points), strict=True), marker="o", color=colour, label=contender)
        if name == "peak memory":
            ax.axhline(1024, color="#334155", linestyle="--", linewidth=1, label="target 1 GB")
        ax.set(xscale="log", yscale="log", xlabel="rows of the window", title=label)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#e2e8f0", zorder=0)
        ax.legend(frameon=False, fontsize=8)
    for kind in ("png", "svg"):
        with replacing(folder / f"drift.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=150)
    pyplot.close(figure)
