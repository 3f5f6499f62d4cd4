"""HTML and SVG as strings; everything that comes from data is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from monitoring.report.values import text


class Markup(str):
    """Text that is markup already; any other string is escaped where it is put in."""

    __slots__ = ()


def put(*parts: object) -> Markup:
    """Join parts; markup stays as it is, everything else is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(str(part)) for part in parts))


def coordinate(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def el(name: str, *content: object, **attributes: object) -> Markup:
    """One element; `class_` gives class, an underscore a hyphen, None leaves an attribute out."""
    pairs: list[str] = []
    for key, value in attributes.items():
        if value is None:
            continue
        shown = coordinate(value) if isinstance(value, float) else escape(str(value))
        pairs.append(f' {key.rstrip("_").replace("_", "-")}="{shown}"')
    return Markup(f"<{name}{''.join(pairs)}>{put(*content)}</{name}>")


def table(
    caption: str, head: Sequence[str], body: Iterable[Sequence[object]], numeric: Iterable[int] = ()
) -> Markup:
    """A table that scrolls inside itself on a narrow screen; `numeric` columns are aligned right."""
    right = set(numeric)

    def cell(name: str, column: int, value: object, **attributes: object) -> Markup:
        shown = value if isinstance(value, Markup) else text(value)
        return el(name, shown, class_="num" if column in right else None, **attributes)

    lines = [el("tr", *(cell("td", i, value) for i, value in enumerate(row))) for row in body]
    if not lines:
        return nothing(f"{caption}: no data")
    header = el("tr", *(cell("th", i, name, scope="col") for i, name in enumerate(head)))
    grid = el("table", el("caption", caption), el("thead", header), el("tbody", *lines))
    return el("div", grid, class_="scroll", tabindex="0", role="region", aria_label=caption)


def folded(summary: str, content: Markup) -> Markup:
    """Content behind a line that opens it: the table beside a plot."""
    return el("details", el("summary", summary), content)


def nothing(message: str = "no data") -> Markup:
    """What stands in the place of a missing part."""
    return el("p", message, class_="nothing")


def badge(label: str, tone: str) -> Markup:
    """A small label; tone is good, bad, warn or plain."""
    return el("span", label, class_=f"badge {tone}")


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """(class of the swatch, label) in a line."""
    return el(
        "ul", *(el("li", el("i", class_=f"swatch {tone}"), label) for tone, label in entries), class_="legend"
    )
