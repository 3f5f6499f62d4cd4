"""Why a release came to what it is: the check that decided with its numbers, and everything that happened, in words."""

from __future__ import annotations

from typing import Any

from serving.release.journal.store import Record
from serving.release.people import events, outcome, queries, words
from serving.release.people.account import Account
from serving.release.release import Check, strategy_name

_ENDINGS = ("promote", "roll_back", "abort", "drop")


def deciding(told: Account) -> Record | None:
    """The decision that explains where the release stands: the one that ended it, else the newest."""
    turns = told.turns
    if turns and turns[-1]["action"] in _ENDINGS:
        return turns[-1]
    return told.last


def explain(told: Account) -> dict[str, Any]:
    """What decided, on which evidence, and all that happened.

    Returns:
        `sentence`; `deciding` with check, version, kind, metric, source, outcome, n, estimate, interval, threshold,
        evidence, rule, reason, query (None where no check decided); `checks`, the newest verdict of each with the
        same fields; `decisions` but the holds; `events`; `holds`, the waits with their reasons; `looks`.
    """
    record = deciding(told)
    return {
        "sentence": sentence(told),
        "deciding": None if record is None else _deciding(told, record),
        "checks": [_shown(told, verdict) for verdict in told.verdicts],
        "decisions": [
            {key: turn[key] for key in ("at", "action", "check", "reason", "weights", "requests")}
            for turn in told.turns
        ],
        "events": [event.__dict__ for event in events.of_records(told.records)],
        "holds": holds(told),
        "looks": len(told.decisions),
    }


def sentence(told: Account) -> str:
    """What became of it, and why, in plain words."""
    came = outcome.of(told.history)
    head = words.headline(told.state, came, told.told - told.began)
    record = deciding(told)
    if record is None:
        return f"{head}."
    if came is None:
        late = " and a person was alerted" if outcome.stuck(told.history) else ""
        return f"{head}{late}; it waits: {record['reason']}."
    return f"{head}: {record['reason']}."


def holds(told: Account) -> list[dict[str, Any]]:
    """Waits of several looks with the same cause as one, with the reason of the last of them."""
    found: list[dict[str, Any]] = []
    for record in told.decisions:
        if record["action"] != "hold":
            found.append({})  # a turn ends a wait
            continue
        if not found or not found[-1] or found[-1]["check"] != record["check"]:
            found.append({"from": record["at"], "check": record["check"], "looks": 0})
        found[-1] |= {"to": record["at"], "reason": record["reason"], "looks": found[-1]["looks"] + 1}
    return [wait for wait in found if wait]


def _deciding(told: Account, record: Record) -> dict[str, Any] | None:
    named = [v for v in record["verdicts"] if v["check"] == record["check"]]
    if record["check"] is None or not named:
        return None
    order = ("FAIL", "ERROR", "INCONCLUSIVE", "PASS")
    if record["action"] == "promote":
        order = ("PASS", "INCONCLUSIVE", "ERROR", "FAIL")
        named = [v for v in named if v.get("version") in (None, record.get("champion"))] or named
    return _shown(told, min(named, key=lambda v: order.index(v["outcome"])))


def _shown(told: Account, verdict: Record) -> dict[str, Any]:
    check = _check(told, verdict["check"])
    version = verdict.get("version") or told.release.candidate
    low, high = verdict.get("lower"), verdict.get("upper")
    return {
        "check": verdict["check"],
        "version": verdict.get("version"),
        "kind": verdict["kind"],
        "metric": None if check is None else check.metric,
        "source": None if check is None else check.source,
        "measures": None if check is None else words.what(check),
        "outcome": verdict["outcome"],
        "n": verdict["n"],
        "estimate": verdict.get("estimate"),
        "interval": None if low is None or high is None else [low, high],
        "threshold": verdict.get("bound"),
        "evidence": verdict.get("evidence"),
        "evidence_needed": None if check is None else _needed(told, check, version),
        "rule": verdict["rule"],
        "reason": verdict["reason"],
        "query": None if check is None else queries.query(told.release, check, version),
    }


def _needed(told: Account, check: Check, version: str) -> float:
    """Odds from which the check decides; an effect's level is shared by its two sides."""
    level = words.level(told.release, check, version)
    return 2 / level if check.metric == "reward" else 1 / level


def _check(told: Account, name: str) -> Check | None:
    return next((check for check in told.release.checks if check.name == name), None)


def text(told: Account) -> str:
    """The explanation as a person reads it in a terminal."""
    found = explain(told)
    release = told.release
    lines = [
        found["sentence"],
        f"release {release.name}, {strategy_name(release.strategy)} on {release.backend}, "
        f"{words.count(found['looks'], 'look')} that changed something",
        "",
    ]
    lines += _deciding_lines(told, found["deciding"])
    if found["checks"]:
        lines += ["", "checks at the last look:"]
        lines += [_line(told, shown) for shown in found["checks"]]
    if found["holds"]:
        lines += ["", "it waited:"]
        lines += [
            f"  {_clock(wait['from'])} to {_clock(wait['to'])}  {words.count(wait['looks'], 'look'):>9}  "
            f"{wait['reason']}"
            for wait in found["holds"][-12:]
        ]
    lines += ["", "what happened:"]
    lines += [
        f"  {_clock(event['at'])}  {'!' if event['type'] == 'Warning' else ' '} {event['reason']:<16} "
        f"{event['message']}"
        for event in found["events"]
    ]
    return "\n".join(lines)


def _deciding_lines(told: Account, shown: dict[str, Any] | None) -> list[str]:
    waits = told.state.live and (deciding(told) or {}).get("action") == "hold"
    if shown is None:
        return [f"no single check {'is waited for' if waits else 'decided'}: see the reason above"]
    check = _check(told, shown["check"])
    verdict = {"lower": None, "upper": None}
    if shown["interval"] is not None:
        verdict = {"lower": shown["interval"][0], "upper": shown["interval"][1]}
    signed = check is not None and words.compares(check)
    needed = "" if shown["evidence_needed"] is None else f" ({shown['evidence_needed']:,.0f} to 1 decides)"
    facts = [
        (
            "waits for" if waits else "decided by",
            f"{shown['check']}, {_article(shown['kind'])} {shown['kind']} that says {shown['outcome']}",
        ),
        ("about", "the whole release" if shown["version"] is None else f"version {shown['version']}"),
        ("metric", shown["metric"] and f"{shown['metric']} from {shown['source']}: {shown['measures']}"),
        ("n", f"{shown['n']:,}"),
        ("estimate", words.quantity(check, shown["estimate"], signed=signed) if check else None),
        ("interval", words.interval(check, verdict) if check else None),
        ("threshold", words.quantity(check, shown["threshold"], signed=signed) if check else None),
        ("evidence", words.odds(shown["evidence"]) + needed if shown["n"] else None),
        ("rule", shown["rule"]),
        ("query", shown["query"]),
        ("note", _note(shown)),
    ]
    return [f"  {name:<11}{value}" for name, value in facts if value]


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _note(shown: dict[str, Any]) -> str | None:
    """Why an interval may still hold the threshold that a verdict says is passed."""
    if shown["interval"] is None or shown["threshold"] is None or shown["evidence"] is None:
        return None
    low, high = shown["interval"]
    if shown["outcome"] not in ("PASS", "FAIL") or not low < shown["threshold"] < high:
        return None
    return (
        "the interval combines each version's own and is wider than the test of the difference that decides"
    )


def _line(told: Account, shown: dict[str, Any]) -> str:
    several = len(told.release.candidates) > 1 and shown["version"] is not None
    name = f"{shown['check']}@{shown['version']}" if several else shown["check"]
    return f"  {name:<14} {shown['outcome']:<12} {shown['reason']}"


def waits_for(told: Account) -> str | None:
    """What a live release needs next; None of one that is over."""
    if not told.state.live:
        return None
    if told.state.phase == "Paused":
        return "a person: `windlass release resume` goes on"
    last = told.last
    if last is None:
        return "its first decision"
    if last["action"] == "hold":
        return str(last["reason"])
    return "requests and outcomes of this step"


def since(told: Account) -> str | None:
    """When what now is began: the step of a live release, the end of one that is over."""
    state = told.state
    if not state.live:
        return None if told.last is None else str(told.last["at"])
    at = state.paused_at or state.step_started_at or told.began
    return at.isoformat()


def _clock(at: str) -> str:
    return at[:16].replace("T", " ")
