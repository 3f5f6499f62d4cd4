"""Each release on its own evidence: the steps of its traffic and the confidence sequence of every check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.report.canvas import Canvas, both, path
from monitoring.report.markup import Markup, badge, el, folded, nothing, table
from monitoring.report.scales import padded, plain
from monitoring.report.values import clock, count, moment, number, rows, text, thinned

OUTCOMES = {"promoted": "good", "rolled_back": "bad", "inconclusive": "warn"}
VERDICTS = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn"}
MOST_LOOKS = 120
CARDS = (256, 152)
MEANINGS = {
    "errors": "failed requests",
    "errorRate": "failed requests",
    "p99": "slow requests",
    "latency": "slow requests",
    "latencyP99": "slow requests",
    "skew": "wrong feature vectors",
    "featureSkew": "wrong feature vectors",
    "brier": "loss less the champion's",
}


@dataclass(frozen=True)
class Look:
    """One look at one check."""

    at: float | None
    n: float
    estimate: float
    lower: float | None
    upper: float | None
    bound: float | None
    verdict: str


def section(summary: Mapping[str, Any], series: Mapping[str, Any]) -> Markup:
    sequences = _sequences(series)
    released = list(rows(summary, "releases"))
    named = {text(r.get("version")) for r in released}
    released += [{"version": v} for v in dict.fromkeys(v for v, _ in sequences) if v not in named]
    if not released:
        return nothing()
    return el("div", *(_card(release, sequences) for release in released), class_="cards")


def _sequences(series: Mapping[str, Any]) -> dict[tuple[str, str], list[Look]]:
    found: dict[tuple[str, str], list[Look]] = {}
    for row in rows(series, "confidence"):
        n, estimate = number(row.get("n")), number(row.get("estimate"))
        if n is None or estimate is None:
            continue
        look = Look(
            moment(row.get("at")),
            n,
            estimate,
            number(row.get("lower")),
            number(row.get("upper")),
            number(row.get("bound")),
            text(row.get("verdict")),
        )
        found.setdefault((text(row.get("release")), text(row.get("check"))), []).append(look)
    return {key: sorted(looks, key=lambda look: look.n) for key, looks in found.items()}


def _card(release: Mapping[str, Any], sequences: Mapping[tuple[str, str], list[Look]]) -> Markup:
    version = text(release.get("version"))
    outcome = text(release.get("outcome"), "unknown")
    facts = [text(release.get("strategy"), "")]
    if (needed := number(release.get("requests_to_verdict"))) is not None:
        facts.append(f"verdict after {count(int(needed), 'request')}")
    if release.get("sabotage"):
        facts.append(f"sabotaged: {text(release.get('sabotage'))}")
    own = [(check, looks) for (v, check), looks in sequences.items() if v == version]
    plots = [_sequence(version, check, looks) for check, looks in own]
    return el(
        "article",
        el(
            "header",
            el("h3", f"Version {version}"),
            badge(outcome.replace("_", " "), OUTCOMES.get(outcome, "plain")),
            el("span", " · ".join(f for f in facts if f), class_="facts"),
        ),
        el("p", text(release.get("reason")), class_="reason"),
        el("div", *plots, class_="plots") if plots else nothing("no checks recorded"),
        _numbers(version, own) if own else Markup(""),
        class_=f"card {OUTCOMES.get(outcome, 'plain')}",
    )


def _numbers(version: str, own: list[tuple[str, list[Look]]]) -> Markup:
    body = [
        (check, int(k.n), f"{k.estimate:.4g}", text(k.lower), text(k.upper), text(k.bound), k.verdict)
        for check, looks in own
        for k in thinned(looks, 12)
    ]
    head = ("Check", "n", "Estimate", "Lower", "Upper", "Bound", "Verdict")
    return folded("The numbers", table(f"Looks at version {version}", head, body, numeric=range(1, 6)))


def _sequence(version: str, check: str, looks: list[Look]) -> Markup:
    verdict = looks[-1].verdict
    head = el(
        "p", el("b", check), " ", badge(verdict.lower(), VERDICTS.get(verdict, "plain")), class_="check"
    )
    meaning = MEANINGS.get(check)
    return el(
        "section",
        head,
        el("p", meaning, class_="ax") if meaning else Markup(""),
        both(lambda narrow: _draw(version, check, looks, narrow)),
    )


def _draw(version: str, check: str, looks: list[Look], narrow: bool) -> Markup:
    canvas = Canvas(
        narrow, 112 if narrow else 150, CARDS, left=40 if narrow else 46, right=8, top=10, bottom=26
    )
    last = looks[-1]
    shown = thinned(looks, MOST_LOOKS)
    low, high = _range(shown)
    x = canvas.x_scale(0 if len(shown) == 1 else shown[0].n, max(last.n, 1))
    y = canvas.y_scale(low, high)
    canvas.y_axis(y, plain, 3)
    canvas.x_axis(x, plain, 2 if narrow else 4)
    band = [(x(k.n), y.clipped(k.upper if k.upper is not None else high)) for k in shown]
    band += [(x(k.n), y.clipped(k.lower if k.lower is not None else low)) for k in reversed(shown)]
    if len(shown) == 1:  # a bar instead of a band without width
        band = [(px + shift, py) for (px, py), shift in zip(band * 2, (-3, -3, 3, 3), strict=True)]
        band = [band[0], band[2], band[3], band[1]]
    canvas.add(el("path", class_="band", d=path(band) + "Z"))
    if last.bound is not None:
        place = y.clipped(last.bound)
        canvas.add(el("line", class_="bound", x1=canvas.x0, x2=canvas.x1, y1=place, y2=place))
        above = place - canvas.y0 > 16
        canvas.label(
            canvas.x1, place - 4 if above else place + 12, "bound", anchor="end", tone="ax boundname"
        )
    canvas.add(el("path", class_="line estimate", d=path([(x(k.n), y.clipped(k.estimate)) for k in shown])))
    for k in thinned(shown, 24):
        tip = f"n {k.n:,.0f}: {k.estimate:.4g} ({text(k.lower)} to {text(k.upper)}), bound {text(k.bound)}"
        tip += f", {clock(k.at)}" if k.at is not None else ""
        canvas.add(el("circle", class_="hit", cx=x(k.n), cy=y.clipped(k.estimate), r=6, data_t=tip))
    tone = VERDICTS.get(last.verdict, "warn")
    canvas.add(el("circle", class_=f"outcome {tone}", cx=x(last.n), cy=y.clipped(last.estimate), r=4))
    description = (
        f"Estimate with its confidence band by number of observations; the last verdict is {last.verdict}."
    )
    return canvas.svg(f"Version {version}, {check}", description)


def _range(looks: list[Look]) -> tuple[float, float]:
    """From the estimates, the bound and the band of the later looks: the first bands are wide as the world."""
    values = [k.estimate for k in looks] + [k.bound for k in looks if k.bound is not None]
    for k in looks[len(looks) // 3 :]:
        values += [v for v in (k.lower, k.upper) if v is not None]
    return padded(values)
