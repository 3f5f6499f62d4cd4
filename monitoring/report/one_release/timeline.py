"""The traffic of one release over time, stacked by version, with what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.report.canvas import Canvas, both, figure, path, steps
from monitoring.report.markup import Markup, el, legend, table
from monitoring.report.one_release.amounts import texts
from monitoring.report.values import clock, count, moment, number, rows, text, thinned

MOST_CHANGES = 400
THINNEST = 2.0


@dataclass(frozen=True)
class Change:
    """Shares in percent from `at` on."""

    at: float
    shares: Mapping[str, float]


def section(contents: Mapping[str, Any]) -> Markup:
    title = "Traffic by version"
    changes = _changes(contents)
    if not changes:
        return figure(title, "", None)
    end = max(moment(contents.get("ended")) or changes[-1].at, changes[-1].at)
    # what the last decision gave is seen as a strip of its own
    end += max((end - changes[0].at) * 0.04, 1.0)
    tones = tones_of(contents)
    versions = [v for v in tones if any(c.shares.get(v) for c in changes)]
    mirrored = any(row.get("mirror_to") for row in rows(contents, "weights"))
    lead = f"{count(len(changes), 'decision')} about the traffic"
    lead += "; copies for the candidate, which users never see, are not shown." if mirrored else "."
    marks = _marks(contents)
    numbers = table(
        "Traffic weights",
        ("At", "Weights in percent"),
        [
            (clock(c.at), ", ".join(f"v{v}: {share:g}" for v, share in c.shares.items()))
            for c in thinned(changes, 200)
        ],
    )
    return figure(
        title,
        lead,
        both(lambda narrow: _draw(thinned(changes, MOST_CHANGES), versions, tones, marks, end, narrow)),
        legend([(tones[v], f"version {v}") for v in versions]),
        numbers,
    )


def tones_of(contents: Mapping[str, Any]) -> dict[str, str]:
    """The champion dark, candidates in clearer colours, one that failed in the colour of failure."""
    champion = text(contents.get("champion"))
    candidates = texts(contents.get("candidates"))
    bright = ("v1", "v3", "v5", "v7", "v4", "v6")
    tones = {champion: "v0", **{c: bright[i % len(bright)] for i, c in enumerate(candidates)}}
    dropped = contents.get("dropped")
    out = set(dropped) if isinstance(dropped, Mapping) else set()
    if contents.get("outcome") == "rolled_back":
        out |= set(candidates)
    return {version: "bad" if version in out else tone for version, tone in tones.items()}


def _changes(contents: Mapping[str, Any]) -> list[Change]:
    found = []
    for row in rows(contents, "weights"):
        at, shares = moment(row.get("at")), row.get("weights")
        if at is not None and isinstance(shares, Mapping):
            known = {str(v): share for v, raw in shares.items() if (share := number(raw)) is not None}
            found.append(Change(at, known))
    return sorted(found, key=lambda change: change.at)


def _marks(contents: Mapping[str, Any]) -> list[tuple[float, str, str]]:
    """(time, tone, words) of the decisions."""
    found = []
    for row in rows(contents, "decisions"):
        at, action = moment(row.get("at")), text(row.get("action"))
        if at is None or action in ("update",):
            continue
        tone = {"promote": "good", "roll_back": "bad", "drop": "bad", "abort": "warn"}.get(action, "plain")
        found.append((at, tone, f"{action.replace('_', ' ')}: {text(row.get('reason'))}"))
    return found


def _draw(
    changes: list[Change],
    versions: list[str],
    tones: Mapping[str, str],
    marks: list[tuple[float, str, str]],
    end: float,
    narrow: bool,
) -> Markup:
    canvas = Canvas(narrow, 230 if narrow else 250, left=46, bottom=46)
    x = canvas.x_scale(changes[0].at, end)
    y = canvas.y_scale(0, 100)
    floor = [0.0] * len(changes)
    columns = [x(change.at) for change in changes]
    for version in versions:
        top = [low + change.shares.get(version, 0.0) for low, change in zip(floor, changes, strict=True)]
        upper = steps([(px, y.clipped(t)) for px, t in zip(columns, top, strict=True)], x(end))
        lower = steps([(px, y.clipped(f)) for px, f in zip(columns, floor, strict=True)], x(end))
        canvas.add(
            el(
                "path",
                class_=f"area {tones[version]}",
                d=path(upper + lower[::-1]) + "Z",
                data_t=f"version {version}",
            )
        )
        floor = top
    for tick in (0, 50, 100):
        canvas.label(canvas.x0 - 8, y(tick) + 4, f"{tick} %", anchor="end")
    canvas.time_axis(x, 4 if narrow else 9)
    last = -1e9
    for at, tone, words in marks:
        place, height = x.clipped(at), canvas.height - 12.0
        canvas.add(el("line", class_="tick", x1=place, x2=place, y1=canvas.y0, y2=canvas.y1))
        if place - last >= 11:  # marks that would cover each other are told by the table
            canvas.add(
                el(
                    "circle",
                    class_=f"outcome {tone}",
                    cx=place,
                    cy=height,
                    r=5,
                    data_t=f"{clock(at)} {words}",
                )
            )
            last = place
    return canvas.svg(
        "Traffic weights over time", "Stacked shares of traffic of each version; dots are decisions."
    )
