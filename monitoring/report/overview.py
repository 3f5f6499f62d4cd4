"""The top of the page: what happened in one sentence, and the few figures that matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report import auc
from monitoring.report.markup import Markup, el
from monitoring.report.values import count, date, moment, number, rows, text


def section(
    summary: Mapping[str, Any], standing: str | None = None, measured: tuple[str, str] | None = None
) -> Markup:
    """The top of the page.

    Args:
        standing: what the newest analysis comes to, which matters more than what was gained.
        measured: the newest measured AUC and a note, where there is no comparison by month.
    """
    name = text(summary.get("workload"), "model")
    return el(
        "header",
        el(
            "div",
            el("p", el("b", "windlass"), " report · ", name, class_="brand"),
            el("h1", standing or _headline(summary)),
            el("p", _story(summary), class_="story"),
            el("dl", *_figures(summary, measured), class_="figures"),
            class_="inner",
        ),
        class_="hero",
    )


def _headline(summary: Mapping[str, Any]) -> str:
    found = auc.gain(summary)
    if found is None:
        return "Nothing measured yet."
    difference = found.live - found.frozen
    if difference > 0.0005:
        return f"The live model ends {difference:.3f} AUC above the one it started as."
    if difference < -0.0005:
        return f"The live model ends {-difference:.3f} AUC below the one it started as."
    return "The live model ends as good as the one it started as."


def _story(summary: Mapping[str, Any]) -> str:
    sentences: list[str] = []
    requests, failed = number(summary.get("requests")), number(summary.get("failed_requests"))
    months = [at for m in rows(summary, "months") if (at := moment(m.get("month"))) is not None]
    if requests is not None:
        span = f" from {date(min(months), '%B')} to {date(max(months), '%B %Y')}" if months else ""
        lost = "" if failed is None else ", none failed" if failed == 0 else f", {failed:,.0f} failed"
        sentences.append(f"{count(int(requests), 'request')}{span}{lost}.")
    accepted = sum(1 for t in rows(summary, "triggers") if t.get("accepted"))
    signals = len(rows(summary, "triggers"))
    if signals:
        sentences.append(f"{count(signals, 'signal')} led to {count(accepted, 'pipeline run')}.")
    releases = rows(summary, "releases")
    promoted = sum(1 for r in releases if r.get("outcome") == "promoted")
    if releases:
        sentences.append(f"{promoted} of {count(len(releases), 'release')} promoted.")
    sabotaged = [r for r in releases if r.get("sabotage")]
    if sabotaged:
        caught = sum(1 for r in sabotaged if r.get("outcome") == "rolled_back")
        sentences.append(
            f"{caught} of {count(len(sabotaged), 'sabotaged candidate')} caught on live traffic and rolled back."
        )
    return " ".join(sentences) or "Run `windlass demo`, or serve and label some predictions."


def _figures(summary: Mapping[str, Any], measured: tuple[str, str] | None) -> list[Markup]:
    found = auc.gain(summary)
    live = measured or (None, None)
    if found is not None:
        live = (f"{found.live:.3f}", f"frozen {found.frozen:.3f}")
    latency = summary.get("latency_ms")
    p50, p99 = (
        (number(latency.get(k)) for k in ("p50", "p99")) if isinstance(latency, Mapping) else (None, None)
    )
    rollbacks = [s for r in rows(summary, "rollbacks") if (s := number(r.get("seconds"))) is not None]
    releases = rows(summary, "releases")
    back = sum(1 for r in releases if r.get("outcome") == "rolled_back")
    every = number(summary.get("sampled_every"))
    sampled = f"one in {every:.0f} sampled" if every and every > 1 else "all of the traffic"
    wall, memory = number(summary.get("wall_seconds")), number(summary.get("peak_rss_mb"))
    return [
        _figure("Live AUC", *live),
        _figure("Requests", _form(number(summary.get("requests")), ",.0f"), sampled),
        _figure(
            "Failed requests", _form(number(summary.get("failed_requests")), ",.0f"), "releases included"
        ),
        _figure("Latency p50 / p99", p50 and p99 and f"{p50:.3g} / {p99:.3g} ms", "through the proxy"),
        _figure(
            "Rolled back", str(back) if releases else None, rollbacks and f"slowest in {max(rollbacks):.2g} s"
        ),
        _figure("Wall time", _duration(wall), memory and f"{memory / 1024:.2g} GB at most"),
    ]


def _figure(name: str, value: object, note: object) -> Markup:
    return el("div", el("dt", name), el("dd", value or "–"), el("dd", note or "", class_="note"))


def _form(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
