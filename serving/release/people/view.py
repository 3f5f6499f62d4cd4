"""The live view of a release in a terminal: traffic as bars, checks as intervals on a scale, and what comes next.

A frame is text made of an account; who draws it, and when, is the command line's affair. Nothing but characters of a
fixed width is used, and colours only where the terminal has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serving.release.people import account, events, explanation, outcome, words
from serving.release.people.account import Account
from serving.release.release import Bandit, strategy_name

#: Columns of a terminal that does not say how wide it is.
WIDTH = 100

_TONES = {"PASS": "32", "FAIL": "31", "ERROR": "31", "INCONCLUSIVE": "33"}
_SHORT = {"PASS": "pass", "FAIL": "FAIL", "ERROR": "ERROR", "INCONCLUSIVE": "open"}


@dataclass(frozen=True)
class Paint:
    """Colours, where there are any."""

    on: bool

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text


def frame(told: Account, now: datetime, *, width: int = WIDTH, color: bool = False) -> str:
    """The release as it stands.

    Args:
        width: columns; lines are cut to them.
    """
    paint = Paint(color)
    lines = [*_head(told, now, paint), "", *_traffic(told, width, paint), "", *_checks(told, width, paint)]
    lines += ["", *_next(told, now, width, paint)]
    return "\n".join(lines)


# --- parts


def _head(told: Account, now: datetime, paint: Paint) -> list[str]:
    release, state = told.release, told.state
    step = f", step {max(state.step + 1, 0)} of {account.steps(release)}" if state.live else ""
    came = outcome.of(told.history)
    phase = came.replace("_", " ") if came else state.phase.lower()
    tone = {"promoted": "1;32", "rolled_back": "1;31"}.get(came or "", "1;33" if came else "1;36")
    lasted = words.rough((now if state.live else told.told) - told.began)
    title = f"{release.model}  {release.name}  {strategy_name(release.strategy)}"
    return [f"{paint(title, '1')}  {paint(phase, tone)}{step}, {lasted} so far" if state.live
            else f"{paint(title, '1')}  {paint(phase, tone)} after {lasted}"]  # fmt: skip


def _traffic(told: Account, width: int, paint: Paint) -> list[str]:
    state, release = told.state, told.release
    room = max(width - 65, 10)
    lines = []
    for version in dict.fromkeys((state.champion, *release.candidates, *state.weights)):
        weight = state.weights.get(version, 0)
        filled = round(room * weight / 100)
        if weight and not filled:
            filled = 1
        role = (
            "champion" if version == state.champion else "candidate" if version in release.candidates else ""
        )
        bar = paint("█" * filled, "34" if role == "champion" else "36") + "·" * (room - filled)
        note = _note(told, version)
        lines.append(
            f"  {version:<8.8} {role:<9} {bar} {weight:>3} %  {state.seen(version).n:>9,} requests{note}"
        )
    return lines


def _note(told: Account, version: str) -> str:
    state = told.state
    if version in state.dropped:
        return ", out"
    if state.traffic.mirror_to == version:
        return f", copies of {state.traffic.mirror_percent} %"
    return ""


def _checks(told: Account, width: int, paint: Paint) -> list[str]:
    verdicts = told.verdicts
    if not verdicts:
        return ["  no look at the evidence yet"]
    room = width - 79
    head = f"  {'check':<12} {'':<5} {'n':>9}  {'estimate':>10}  {'interval':<24} {'bound':>8}"
    lines = [paint(head, "2")]
    several = len(told.release.candidates) > 1 or isinstance(told.release.strategy, Bandit)
    for verdict in verdicts:
        check = next((c for c in told.release.checks if c.name == verdict["check"]), None)
        name = (
            f"{verdict['check']} {verdict['version']}"
            if several and verdict.get("version")
            else verdict["check"]
        )
        signed = check is not None and words.compares(check)
        estimate = (
            "–" if verdict["estimate"] is None else words.quantity(check, verdict["estimate"], signed=signed)
        )
        bound = "" if verdict["bound"] is None else words.quantity(check, verdict["bound"], signed=signed)
        interval = words.interval(check, verdict) if verdict["estimate"] is not None else ""
        drawn = f"  {scale(verdict, room)}" if room >= 12 else ""
        short = paint(f"{_SHORT[verdict['outcome']]:<5}", _TONES[verdict["outcome"]])
        lines.append(
            f"  {name:<12.12} {short} {verdict['n']:>9,}  {estimate:>10}  {interval:<24} {bound:>8}{drawn}".rstrip()
        )
    return lines


def scale(verdict: Mapping[str, Any], room: int) -> str:
    """`├──●───┤ │`: the interval, the estimate and the bound on a scale of their own."""
    low, high, estimate, bound = (verdict[name] for name in ("lower", "upper", "estimate", "bound"))
    if low is None or high is None or estimate is None or bound is None:
        return ""
    least, most = min(low, bound), max(high, bound)
    if most <= least:
        return ""
    cells = [" "] * room

    def place(value: float) -> int:
        share: float = (value - least) / (most - least)
        return min(max(round(share * (room - 1)), 0), room - 1)

    first, last = place(low), place(high)
    for cell in range(first, last + 1):
        cells[cell] = "─"
    cells[first], cells[last] = "├", "┤"
    cells[place(bound)] = "┃"
    cells[place(estimate)] = "●"
    return "".join(cells).rstrip()


def _next(told: Account, now: datetime, width: int, paint: Paint) -> list[str]:
    waits = explanation.waits_for(told)
    lines = []
    if waits is not None:
        lines += _wrapped("  next    ", waits, width)
    else:
        lines += _wrapped("  why     ", explanation.sentence(told), width)
    if told.state.live and told.state.alert is not None:
        lines += [paint(line, "33") for line in _wrapped("  alert   ", told.state.alert, width)]
    if told.history.unconfirmed is not None:
        lines.append(paint("  acting  the last decision is not in force yet", "33"))
    lines += ["", *(_event(event, width) for event in list(events.of_records(told.records))[-5:])]
    if told.state.live and told.last is not None:
        ago = words.rough(max(now - datetime.fromisoformat(told.last["at"]), now - now))
        lines.append(paint(f"  last look that changed something: {ago} ago", "2"))
    return lines


def _event(event: events.Event, width: int) -> str:
    mark = "!" if event.type == "Warning" else " "
    line = f"  {event.at[11:19]} {mark} {event.reason:<15} {event.message}"
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _wrapped(name: str, text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, initial_indent=name, subsequent_indent=" " * len(name)) or [name]
