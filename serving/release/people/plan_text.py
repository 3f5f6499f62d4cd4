"""A plan as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from serving.release.people import words


def text(plan: Mapping[str, Any]) -> str:
    """The plan that `plan.plan` gives, as lines."""
    versions = ", ".join(plan["candidates"])
    champion = plan["champion"] or "whichever version is the champion then"
    lines = [
        f"release {plan['release']} of {plan['model']}: {plan['strategy']}, version {versions} against {champion}",
        "",
        "steps:",
        *(_step(number, step) for number, step in enumerate(plan["steps"], 1)),
    ]
    rate = plan["traffic_per_second"]
    lines += [
        "",
        f"traffic: {'unknown' if rate is None else f'{rate:.3g} requests/s'} ({plan['traffic_source']})",
    ]
    if plan["sample_size"] is not None:
        lines += ["", *_size(plan)]
    expected, latest = plan["expected_duration"], plan["latest_end"]
    lines += ["", f"expected duration: {expected['text']}"]
    if expected["seconds"] is None and plan["earliest_end"]["seconds"]:
        lines[-1] += f", at least {plan['earliest_end']['text']}"
    if latest["seconds"] is not None:
        lines.append(f"latest end: {latest['text']}")
    lines += ["", "checks, and about when they decide (candidate's observations):"]
    for check in plan["checks"]:
        lines.append(
            f"  {check['check']} ({check['kind']}, {check['metric']} from {check['source']}, alpha {check['alpha']:g}, "
            f"nothing advances below {check['min_samples']})"
        )
        lines += [f"    {_expected(expected)}" for expected in check["expected"]]
    lines += [f"unknown: {what}" for what in plan["unknown"]]
    lines += [f"note: {what}" for what in plan["notes"]]
    return "\n".join(lines)


def _step(number: int, step: Mapping[str, Any]) -> str:
    needs = []
    if step["min_samples"]:
        needs.append(f"{step['min_samples']:,} of its requests ({step['requests']:,} in all)")
    if step["min_duration_seconds"]:
        needs.append(f"{_long(step['min_duration_seconds'])} at least")
    if step["expected_seconds"]:
        needs.append(f"about {_long(step['expected_seconds'])}")
    return f"  {number}. {step['what']}" + (f": {', '.join(needs)}" if needs else "")


def _size(plan: Mapping[str, Any]) -> list[str]:
    size = plan["sample_size"]
    effect = (
        f"a lift of {size['lift']:+.3g}" if abs(size["lift"]) < 0.0005 else f"a lift of {size['lift']:+.1%}"
    )
    by_end = size["power_by_end"]
    head = f"decision {size['check']}: baseline {size['baseline']:.4g} ({size['baseline_source']}), {effect}"
    rows = [
        ("decided with chance 50 %", size["per_arm"], size["total"], size["seconds"]),
        (
            "decided with chance 90 %",
            size["ninety"]["per_arm"],
            size["ninety"]["total"],
            size["ninety"]["seconds"],
        ),
        (
            f"one look, {size['fixed']['power']:.0%} power",
            size["fixed"]["per_arm"],
            size["fixed"]["total"],
            size["fixed"]["seconds"],
        ),
    ]
    lines = [f"{head}, alpha {plan['alpha']:g}, looking all the time:"]
    for name, arms, total, seconds in rows:
        shown = ", ".join(f"{version}: {n:,}" for version, n in arms.items())
        after = "" if seconds is None else f", {_long(seconds)}"
        lines.append(f"  {name:<25} {shown} ({total:,} in all{after})")
    if by_end is not None:
        chance = "less than 10 %" if by_end == 0 else f"at least {by_end:.0%}"
        lines.append(f"  chance to decide before the planned end: {chance}")
    return lines


def _expected(expected: Mapping[str, Any]) -> str:
    verb = {"FAIL": "stops it", "PASS": "passes"}[expected["outcome"]]
    n = expected["observations"]
    if n is None:
        when = "after more than can be planned for"
    else:
        after = "" if expected["seconds"] is None else f", {_long(expected['seconds'])}"
        when = f"after {n:,} ({expected['requests']:,} requests in all{after})"
    assumes = f"  [{expected['assumes']}]" if expected["assumes"] else ""
    return f"{expected['effect']}: {verb} {when}{assumes}"


def _long(seconds: float) -> str:
    return words.rough(timedelta(seconds=seconds))
