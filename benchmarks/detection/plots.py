"""Two pictures: how often each contender rings for nothing, and which change of which column is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from windlass import atomic


def write(report: dict[str, Any], folder: Path) -> None:
    """Write both as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 3))
    rows = [m for m in report["measurements"] if m["name"] == "false alarms a quarter, columns"]
    axis.barh([m["contender"] for m in rows], [max(m["value"], 0.01) for m in rows], color="#356")
    axis.axvline(1.0, color="#b33", linestyle="--", label="at most one a quarter")
    axis.set_xscale("log")
    axis.set_xlabel("false alarms a quarter, nothing injected")
    axis.legend()
    _save(figure, folder / "false_alarms.svg")
    columns = report["columns"]
    kinds = sorted({k for found in columns.values() for k in found})
    if kinds:
        figure, axis = pyplot.subplots(figsize=(7, 9))
        values = [[found.get(k, float("nan")) for k in kinds] for found in columns.values()]
        image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right")
        axis.set_yticks(range(len(columns)), list(columns), fontsize=7)
        figure.colorbar(image, label="share of runs found (one window; shifts: two)")
        _save(figure, folder / "found_by_column.svg")


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="svg", bbox_inches="tight")
    pyplot.close(figure)
