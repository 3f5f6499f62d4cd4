"""Which alerts the real rules give for pages that were really scraped, by Prometheus's own evaluation.

Rules hold an alert back for minutes, and a drill has seconds. So what two scrapes saw is taken to go on: a gauge stays
at the second one's value, a counter grows by their difference every minute, a series that the second one lacks is gone.
`promtool test rules` evaluates the rule files as they are, on that timeline: `BEFORE` minutes of what was seen before
the fault, then `DURING` minutes of what was seen after it. Timestamps (`…_timestamp_seconds`) are moved onto its
clock, which begins at 0.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitoring.rules import programs
from windlass.drill.pages import Scrape, Series
from windlass.errors import WindlassError

RULES = Path(programs.__file__).with_name("windlass.rules.yaml")
#: The longest `for:` of a rule is an hour.
BEFORE = DURING = 75
AT_DURING = (1, 2, 3, 4, 6, 10, 16, 30, 74)
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Phase:
    """Two scrapes under the same circumstances."""

    first: Scrape
    second: Scrape


@dataclass(frozen=True)
class Firing:
    """Names of the alerts that fire, and of each its label sets."""

    before: Mapping[str, tuple[Mapping[str, str], ...]]
    during: Mapping[str, tuple[Mapping[str, str], ...]]


def evaluate(before: Phase, during: Phase, rules: Sequence[Path] = (RULES,)) -> Firing:
    """Evaluate the rules over a calm phase and the phase of a fault.

    Raises:
        WindlassError: promtool cannot read the rules or the series.
    """
    names = sorted({name for path in rules for name in re.findall(r"alert: (\S+)", path.read_text())})
    # late in the calm phase, so that every `for:` had its time; and all along the fault, since an alert may end
    times = [BEFORE - 2, *(BEFORE + m for m in AT_DURING)]
    document = {
        "rule_files": [str(path.resolve()) for path in rules],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": str(series), "values": values}
                    for series, values in timeline(before, during).items()
                ],
                # every alert that fires is one that nobody expected: that is how promtool tells them
                "alert_rule_test": [
                    {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
                    for minute in times
                    for name in names
                ],
            }
        ],
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "drill.yaml"
        path.write_text(json.dumps(document))
        done = subprocess.run(
            [programs.binary("promtool"), "test", "rules", path],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    said = done.stdout + done.stderr
    found = told(said)
    if done.returncode not in (0, 1) or bool(done.returncode) != bool(found):
        raise WindlassError(
            f"promtool does not evaluate {', '.join(map(str, rules))}: {said.strip()[-1500:]}"
        )
    split = BEFORE * 60
    return Firing(
        before=_by_name([f for f in found if f[1] < split]),
        during=_by_name([f for f in found if f[1] >= split]),
    )


def timeline(before: Phase, during: Phase) -> dict[Series, str]:
    """Values of every series, a minute apart, in promtool's notation."""
    zero = before.first.at
    everything = sorted({*before.second.samples, *during.second.samples, *during.first.samples})
    return {s: " ".join(_values(s, before, during, zero)) for s in everything}


def told(said: str) -> list[tuple[str, float, Mapping[str, str]]]:
    """Read what promtool says of alerts that it did not expect: (name, seconds, labels)."""
    found: list[tuple[str, float, Mapping[str, str]]] = []
    name, at = "", 0.0
    for text in said.splitlines():
        if heading := re.search(r"alertname: (\S+), time: (\S+),", text):
            name, at = heading[1], _seconds(heading[2])
        elif labels := re.search(r"Labels:\{(.*)\}", text):
            pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels[1])
            found.append((name, at, {k: v for k, v in pairs if k != "alertname"}))
    return found


def _values(series: Series, before: Phase, during: Phase, zero: float) -> list[str]:
    counter = any(series in s.counters for s in (before.first, before.second, during.first, during.second))
    out: list[str] = []
    base = 0.0
    for phase, minutes in ((before, BEFORE), (during, DURING)):
        first, second = phase.first.samples.get(series), phase.second.samples.get(series)
        if second is None:
            # a scrape that lacks a series ends it at once; staleness is told once
            there = bool(out) and out[-1] not in ("stale", "_")
            out += ["stale" if there else "_", *["_"] * (minutes - 1)]
            continue
        if not counter:
            value = second - zero if series.name.endswith("_timestamp_seconds") else second
            out += [_number(value)] * minutes
            continue
        # a process that was started anew counts from nothing
        grown = second if first is None or second < first else second - first
        start = base if out and out[-1] not in ("stale", "_") else (first or 0.0)
        out += [_number(start + grown * (i + 1)) for i in range(minutes)]
        base = start + grown * minutes
    return out


def _by_name(
    found: Sequence[tuple[str, float, Mapping[str, str]]],
) -> dict[str, tuple[Mapping[str, str], ...]]:
    by_name: dict[str, tuple[Mapping[str, str], ...]] = {}
    for name, _, labels in found:
        if labels not in by_name.get(name, ()):
            by_name[name] = (*by_name.get(name, ()), labels)
    return by_name


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.10g}"


def _seconds(duration: str) -> float:
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(float(n) * units[u] for n, u in re.findall(r"([\d.]+)([dhms])", duration))
