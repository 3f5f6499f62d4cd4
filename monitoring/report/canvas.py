"""A plot's frame: its size, axes and accessible name. Each plot is drawn twice, for a desk and for a phone.

Scaling one drawing down would scale its letters down too; so the page holds a wide and a narrow one and the
style sheet shows one of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from monitoring.report.markup import Markup, coordinate, el, folded, nothing
from monitoring.report.scales import Scale, plain, time_ticks


@dataclass
class Canvas:
    """A drawing in progress; coordinates are pixels.

    Attributes:
        narrow: it is the one for a phone.
        widths: of the wide and of the narrow one.
        left, right, top, bottom: margins around the plot's own area.
    """

    narrow: bool
    height: int
    widths: tuple[int, int] = (1040, 350)
    left: float = 46
    right: float = 16
    top: float = 16
    bottom: float = 28
    parts: list[Markup] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.widths[self.narrow]

    @property
    def x0(self) -> float:
        return float(self.left)

    @property
    def x1(self) -> float:
        return float(self.width - self.right)

    @property
    def y0(self) -> float:
        return float(self.top)

    @property
    def y1(self) -> float:
        return float(self.height - self.bottom)

    def add(self, *parts: Markup) -> None:
        self.parts.extend(parts)

    def x_scale(self, low: float, high: float) -> Scale:
        return Scale(low, high, self.x0, self.x1)

    def y_scale(self, low: float, high: float, *, logarithmic: bool = False) -> Scale:
        return Scale(low, high, self.y1, self.y0, logarithmic)

    def y_axis(self, scale: Scale, label: Callable[[float], str] = plain, about: int = 5) -> None:
        """Horizontal grid lines with their values."""
        for tick in scale.ticks(about):
            y = scale(tick)
            self.add(el("line", class_="grid", x1=self.x0, x2=self.x1, y1=y, y2=y))
            self.label(self.x0 - 8, y + 4, label(tick), anchor="end")

    def x_axis(self, scale: Scale, label: Callable[[float], str] = plain, about: int = 6) -> None:
        for tick in scale.ticks(about):
            self.label(scale(tick), self.y1 + 18, label(tick))

    def time_axis(self, scale: Scale, about: int | None = None) -> None:
        for tick, name in time_ticks(scale.low, scale.high, about or (5 if self.narrow else 12)):
            x = scale(tick)
            self.add(el("line", class_="tick", x1=x, x2=x, y1=self.y1, y2=self.y1 + 5))
            self.label(x, self.y1 + 19, name)

    def label(self, x: float, y: float, text: str, *, anchor: str = "middle", tone: str = "ax") -> None:
        """Text, moved inwards where it would be cut off at the edge of the drawing."""
        half = 3.6 * len(text)  # about half of its width at this size
        if anchor == "middle":
            x = min(max(x, half + 1), self.width - half - 1)
        self.add(el("text", text, class_=tone, x=x, y=y, text_anchor=None if anchor == "start" else anchor))

    def svg(self, title: str, description: str) -> Markup:
        name = f"p{zlib.crc32(title.encode()):x}{'n' if self.narrow else 'w'}"
        return el(
            "svg",
            el("title", title, id=f"{name}t"),
            el("desc", description, id=f"{name}d"),
            *self.parts,
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_labelledby=f"{name}t {name}d",
            class_="narrow" if self.narrow else "wide",
        )


def path(points: list[tuple[float, float]]) -> str:
    """Path data of a line through the points."""
    return "M" + "L".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points)


def steps(points: list[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Points of a line that keeps each value until the next one, and the last until `end`."""
    line: list[tuple[float, float]] = []
    for i, (x, y) in enumerate(points):
        following = points[i + 1][0] if i + 1 < len(points) else end
        line += [(x, y), (following, y)]
    return line


def both(draw: Callable[[bool], Markup]) -> Markup:
    """The wide and the narrow drawing of one plot; `draw` is told whether it is the narrow one."""
    return Markup(draw(False) + draw(True))


def figure(
    title: str, lead: str, plot: Markup | None, legend: Markup | None = None, fallback: Markup | None = None
) -> Markup:
    """A plot with its heading, one sentence that says what is to be seen, its legend and its numbers."""
    return el(
        "figure",
        el("h3", title),
        el("p", lead, class_="lead") if lead else Markup(""),
        legend if plot is not None and legend is not None else Markup(""),
        plot if plot is not None else nothing(),
        folded("The numbers", fallback) if plot is not None and fallback is not None else Markup(""),
    )
