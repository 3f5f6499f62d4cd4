"""What must hold whatever fails, written down as code: asked at every write, at every change of the wire, at the end.

Nothing here asks the engine whether the engine is right (but for the replay of its journal); what a promotion rests on
is counted again in `recount.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from serving.release import durations, engine, state, traffic
from serving.release.checks import SAMPLE_RATIO
from serving.release.evidence import Evidence
from serving.release.journal import evidence_json
from serving.release.journal.store import Entry, Record
from serving.release.people.outcome import LATE
from serving.release.release import Bandit, Experiment, Release, Shadow
from serving.release.simulation.faults import METRICS
from serving.release.simulation.gateway import Wire
from serving.release.simulation.recount import SURE, Recount
from serving.release.simulation.scenario import CHAMPION, MODEL, Scenario
from serving.release.simulation.store import Disk
from serving.release.simulation.told import Stratum, Told
from serving.release.traffic import Traffic

#: Every so many holding decisions one is decided again from the journal (all that act are).
REPLAY_EVERY = 5

#: Alerts of one release beyond which a person stops reading them.
ALERTS = 40

_PHASES: Mapping[str, tuple[str, ...]] = {
    "start": ("Progressing",),
    "advance": ("Progressing",),
    "update": ("Progressing",),
    "drop": ("Progressing", "Paused"),
    "promote": ("Promoted",),
    "roll_back": ("RolledBack",),
    "abort": ("Aborted",),
    "pause": ("Paused",),
    "resume": ("Progressing",),
    "hold": ("Progressing", "Paused"),
}


#: What a route says beside its weights where no release is in progress.
_PLAIN = {**traffic.to_json(Traffic({})), "weights": {}}


@dataclass(frozen=True)
class Violation:
    """Something that must not happen, and did."""

    seed: int
    tick: int
    invariant: str
    detail: str


class Watch:
    """Follows one seed.

    Attributes:
        violations: what was found.
        decisions: records of decisions that were seen.
    """

    def __init__(self, scenario: Scenario, disk: Disk, wire: Wire, releases: Mapping[str, Release]) -> None:
        self.violations: list[Violation] = []
        self.decisions = 0
        self.tick = 0
        self.told: list[Told] = []
        self._scenario = scenario
        self._disk = disk
        self._wire = wire
        self._releases = releases
        self._versions = frozenset(scenario.behaviours)
        self._aliases = {CHAMPION}
        self._begun_before = 0
        self._recount = Recount(self.require)
        self._queued: list[str] = []
        self._reported: set[str] = set()

    def require(self, holds: bool, invariant: str, detail: Callable[[], str] | str) -> None:
        if not holds and invariant not in self._reported:
            self._reported.add(invariant)  # the first of a kind tells the story
            text = detail if isinstance(detail, str) else detail()
            self.violations.append(Violation(self._scenario.seed, self.tick, invariant, text))

    @property
    def newest(self) -> Told | None:
        return self.told[-1] if self.told else None

    # --- the wire

    def on_told(self, model: str, wanted: Traffic) -> None:
        """A process is about to change the routes."""
        told = self.newest
        self.require(
            told is not None and told.acted is not None and told.acted["traffic"] == traffic.to_json(wanted),
            "journal before act",
            lambda: (
                f"the router is told {dict(wanted.weights)} and the newest decision in the journal says "
                f"{None if told is None or told.acted is None else dict(told.acted['weights'])}"
            ),
        )

    def on_wire(self, model: str, shown: Traffic) -> None:
        weights = dict(shown.weights)
        self.require(
            sum(weights.values()) == 100 and min(weights.values()) > 0,
            "traffic sums to 100",
            f"on the wire: {weights}",
        )
        unknown = set(shown.versions) - self._versions
        self.require(not unknown, "known versions only", f"on the wire: {sorted(unknown)}")

    def on_champion(self, model: str, version: str) -> None:
        told = self.newest
        # before the first release a person's rollback moves the alias of what was merely started
        self.require(
            told is None or (told.acted is not None and told.acted["champion"] == version),
            "journal before act",
            f"the alias moves to {version}, which no decision says",
        )
        self.require(
            version in self._aliases, "one champion", f"the alias moves to {version}, never promoted"
        )

    # --- the journal

    def on_record(self, entry: Entry, record: Record) -> None:
        if record["kind"] == "release":
            self._on_release(entry, record)
            return
        told = next((told for told in self.told if told.entry == entry), None)
        if told is None:
            self.require(False, "journal order", f"{record['kind']} before its release")
            return
        if record["kind"] == "decision":
            self.decisions += 1
            self._on_decision(told, record)
        elif record["kind"] == "confirmed":
            self._on_confirmed(told, record)
        elif record["kind"] == "repaired":
            told.repaired = True

    def _on_release(self, entry: Entry, record: Record) -> None:
        live = [told.entry.name for told in self.told if told.live]
        self.require(not live, "one live release", f"{entry.name} begins while {live} is live")
        open_ = [told.entry.name for told in self.told if not told.confirmed]
        self.require(not open_, "confirm before the next", f"{entry.name} begins, {open_} is not in force")
        if self._queued and entry.name in self._queued:
            self.require(
                self._queued[0] == entry.name,
                "queue order",
                f"{entry.name} begins before {self._queued[0]}, which waits longer",
            )
            self._queued.remove(entry.name)
        alias = self._wire.champions[MODEL]
        self.require(
            record["champion"] == alias, "one champion", f"{entry.name} begins with champion {record['champion']}, "
            f"the alias is {alias}",
        )  # fmt: skip
        self.told.append(Told(entry, record, self._releases[entry.name]))

    def _on_confirmed(self, told: Told, record: Record) -> None:
        acted = told.acted
        if acted is None or record["seq"] != acted["seq"]:
            self.require(
                False, "confirmed is in force", f"confirms {record['seq']}, which does not wait for it"
            )
            return
        shown = traffic.to_json(self._wire.routes[MODEL])
        self.require(
            shown == acted["traffic"],
            "confirmed is in force",
            lambda: f"confirmed {dict(acted['weights'])}, on the wire {dict(shown['weights'])}",
        )
        alias = self._wire.champions[MODEL]
        self.require(
            acted["champion"] in (None, alias), "confirmed is in force", f"confirmed champion {acted['champion']}, "
            f"the alias is {alias}",
        )  # fmt: skip
        told.confirmed = True

    def _on_decision(self, told: Told, record: Record) -> None:
        action, after = record["action"], record["state"]
        before = told.phase
        at = datetime.fromisoformat(record["at"])
        self.require(bool(record["reason"].strip()), "every decision has a reason", f"{action} without one")
        self.require(record["seq"] == told.seq + 1, "journal order", f"{record['seq']} after {told.seq}")
        allowed = after["phase"] in _PHASES[action]
        self.require(
            allowed and (told.live or record["cause"] is not None),
            "phases follow actions",
            f"{action}: {before} -> {after['phase']}",
        )
        weights = record["weights"]
        self.require(
            sum(weights.values()) == 100 and min(weights.values()) > 0,
            "traffic sums to 100",
            f"decided: {weights}",
        )
        out = [version for version in after["dropped"] if version in weights]
        ends = after["phase"] not in ("Progressing", "Paused")
        self.require(not out or ends, "who is out gets nothing", f"{out} in {weights}")
        plain = {**record["traffic"], "weights": {}}
        self.require(
            after["phase"] in ("Progressing", "Paused") or plain == _PLAIN,
            "an end is all on one",
            lambda: f"{action} leaves {plain}",
        )
        if told.last is not None:
            before_n = told.last["state"]["requests"]
            now_n = after["requests"]
            back = [v for v in before_n if v in now_n and now_n[v]["n"] < before_n[v]["n"]]
            self.require(
                not back, "counts never go backwards", f"{action}: {back} have fewer requests than before"
            )
        nonsense = any(verdict["outcome"] == "ERROR" for verdict in record["verdicts"])
        self.require(
            not nonsense or action != "hold" or after["phase"] != "Progressing" or after["alert"] is not None,
            "nonsense is told",
            lambda: f"{action} ({record['reason']}) although a check's evidence cannot be used",
        )
        crooked = any(v["check"] == SAMPLE_RATIO and v["outcome"] == "FAIL" for v in record["verdicts"])
        # counts that were wrong for a while are outweighed by right ones, which takes longer than a seed
        wrong = {*METRICS} & {fault.kind for fault in self._scenario.faults}
        calm = self.tick > self._scenario.calm_from + 10 and self._scenario.special != "crooked" and not wrong
        self.require(
            not (crooked and calm and told.live),
            "a route that was repaired is not held against anybody",
            lambda: f"{action}: {record['reason']}",
        )
        forward = action in ("advance", "update", "promote") and record["cause"] is None
        self.require(
            told.confirmed or not forward,
            "nothing overtakes what is not in force",
            lambda: f"{action} while {told.acted and told.acted['action']} is not confirmed",
        )
        if isinstance(told.release.strategy, Shadow) and after["phase"] in ("Progressing", "Paused"):
            self.require(weights == {told.champion: 100}, "a shadow answers nobody", f"{action}: {weights}")
        self._check_moves(told, record)
        self._check_alert(told, record)
        if record["acts"]:
            told.acted, told.confirmed = record, False
        self._recount.follow(told, record)
        cause = record["cause"] or {}
        if action == "promote":
            self._aliases.add(record["champion"])
            self.require(
                record["champion"] in told.release.candidates and weights == {record["champion"]: 100},
                "promoted is champion",
                f"promote: champion {record['champion']}, weights {weights}",
            )
            if cause.get("command") is None:
                self._recount.check_promotion(told, record, at)
        elif action == "advance":
            self._recount.check_advance(told, record, at)
        elif action == "update":
            self._recount.check_trusted(told, record, "moves weights", ("guardrail", "decision"))
        elif action in ("roll_back", "abort"):
            target = cause.get("to") or told.champion
            if action == "roll_back" and record["champion"] is not None:
                self._aliases.add(record["champion"])
            self.require(
                weights == {target: 100}, "an end is all on one", f"{action}: {weights}, not {target}"
            )
            if action == "abort" and not cause and record["check"] != engine.BACKEND:
                given_up = record["reason"].startswith(LATE)
                self.require(
                    given_up or not self._recount.is_deaf(record, told, ("decision",)),
                    "no end without evidence",
                    f"{action}: {record['reason']}",
                )
            if before == "Promoted":
                self.require(
                    record["champion"] == target,
                    "one champion",
                    f"back to {target}, alias {record['champion']}",
                )
            if cause.get("command") == "rollback":
                self.require(
                    record["champion"] == target,
                    "one champion",
                    f"back to {target}, alias {record['champion']}",
                )
        if record["acts"] or record["seq"] % REPLAY_EVERY == 0:
            self._check_replay(told, record, at)
        told.pairs = self._pairs(told, record)
        if action in ("start", "advance"):
            told.entered, told.paused = record, timedelta(0)
        if action == "pause":
            told.paused_at = at
        if action == "resume" and told.paused_at is not None:
            told.paused += at - told.paused_at
            told.paused_at = None
        told.phase, told.seq, told.last, told.repaired = after["phase"], record["seq"], record, False

    def _check_moves(self, told: Told, record: Record) -> None:
        """Weights move where an action says so, and a canary's only upwards."""
        action, last = record["action"], told.last
        if last is None:
            self.require(
                action == "start" or record["cause"] is not None, "phases follow actions", f"first: {action}"
            )
            return
        if action in ("hold", "pause", "resume"):
            self.require(
                record["traffic"] == last["traffic"],
                "weights move for a cause",
                f"{action}: {record['weights']}",
            )
        if action == "advance":
            candidate = told.release.candidate
            self.require(
                record["weights"].get(candidate, 0) > last["weights"].get(candidate, 0),
                "weights move for a cause",
                f"advance: {last['weights']} -> {record['weights']}",
            )
        if action == "drop":
            new = set(record["state"]["dropped"]) - set(last["state"]["dropped"])
            self.require(bool(new), "weights move for a cause", "drop without anybody new being out")

    def _check_alert(self, told: Told, record: Record) -> None:
        if record["alert"] is None:
            return
        told.alerts += 1
        last = told.last
        self.require(
            last is None or last["alert"] != record["alert"],
            "no alert is repeated",
            f"twice in a row: {record['alert']}",
        )
        self.require(told.alerts <= ALERTS, "no alert is repeated", f"{told.alerts} alerts of one release")

    def _pairs(self, told: Told, record: Record) -> dict[str, Sequence[float]]:
        if record["evidence"] is None:
            return told.pairs
        return {**told.pairs, **evidence_json.from_json(record["evidence"], told.pairs).paired}

    def _check_replay(self, told: Told, record: Record, at: datetime) -> None:
        """The journal alone gives the decision again."""
        release = told.release
        if told.last is None:
            before = state.initial(release, told.champion)
        else:
            before = state.from_json(json.loads(json.dumps(told.last["state"])), release)
        if told.repaired:
            before = state.recounted(before)
        cause = record["cause"]
        if cause is None:
            plain = json.loads(json.dumps(record["evidence"]))
            if plain is None:
                plain = {"at": record["at"], "arms": {}}
            again = engine.next_step(before, evidence_json.from_json(plain, told.pairs), at)
        elif "command" in cause:
            again = engine.obey(before, cause["command"], at, by=cause["by"], to=cause["to"])
        else:
            again = engine.refused(before, cause["refused"], cause["failures"], at)
        same = (again.action, again.reason, again.champion) == (
            record["action"],
            record["reason"],
            record["champion"],
        )
        self.require(
            same and json.dumps(state.to_json(again.state)) == json.dumps(record["state"]),
            "the journal replays",
            lambda: (
                f"{record['seq']}: {record['action']} ({record['reason']}), again: {again.action} ({again.reason})"
            ),
        )

    # --- after a turn, and at the end

    def turn_begins(self) -> None:
        """Whoever begins from now on was not there when this turn's orders were read."""
        self._begun_before = len(self.told)

    def on_queued(self, name: str) -> None:
        """A document waits behind the live release."""
        if name not in self._queued and name not in {told.entry.name for told in self.told}:
            self._queued.append(name)

    def after_calm_turn(self, queue: Sequence[str]) -> None:
        """A turn in which nothing failed and nobody crashed: everything decided is in force."""
        told = self.newest
        if told is None or told.acted is None:
            return
        shown = self._wire.routes[MODEL]
        self.require(
            traffic.to_json(shown) == told.acted["traffic"] and told.confirmed,
            "what is decided is in force",
            lambda: (
                f"{told.entry.name} {told.phase}: decided {dict(told.acted['weights'] if told.acted else {})}, "
                f"on the wire {dict(shown.weights)}, {'confirmed' if told.confirmed else 'not confirmed'}"
            ),
        )
        if not told.live:
            alias = self._wire.champions[MODEL]
            self.require(
                shown.weights == {alias: 100},
                "one champion",
                f"{told.entry.name} is over, the alias is {alias}, on the wire {dict(shown.weights)}",
            )

    def on_look(self, evidence: Evidence, *, clean: bool = True) -> None:
        """The engine looked; at evidence that is what happened, and where nothing failed, what is known is acted on."""
        told = self.newest
        if told is None:
            return
        theirs = evidence.arms.get(told.champion)
        out = set() if told.last is None else set(told.last["state"]["dropped"])
        guarded = any(c.metric == "errorRate" and c.relative_to_champion for c in told.release.checks)
        for version in told.release.candidates:
            ours = evidence.arms.get(version)
            if ours is None or theirs is None or not guarded:
                continue
            found = told.clean.setdefault(version, Stratum())
            count = found.add if clean else found.skip
            count((ours.requests, ours.errors), (theirs.requests, theirs.errors))
            self.require(
                not clean or found.z <= 2 * SURE or not told.live or version in out,
                "known harm is stopped",
                f"{told.phase}: errors of {version} are {found.z:.0f} sigma above the champion's",
            )

    def obeyed(self, command: str, to: str | None, before: str | None) -> None:
        """A person's command has left the mailbox; `before` is the phase that it met."""
        told = self.newest
        if told is None or before is None:
            return
        expected = {
            ("abort", "Progressing"): "Aborted",
            ("abort", "Paused"): "Aborted",
            ("rollback", "Progressing"): "RolledBack",
            ("rollback", "Paused"): "RolledBack",
            ("rollback", "Promoted"): "RolledBack",
        }.get((command, before))
        if (command, before) == ("pause", "Progressing"):
            going = told.phase == "Progressing" and len(self.told) == self._begun_before
            self.require(not going, "commands are obeyed", "pause, and it goes on")
        self.require(
            expected is None or any(known.phase == expected for known in self.told[-2:]),
            "commands are obeyed",
            f"{command} met {before}, now {told.phase}",
        )

    def at_end(self, queue: Sequence[str], now: datetime) -> None:
        """Every release has ended, or holds and says why."""
        scenario = self._scenario
        live = [told for told in self.told if told.live]
        for told in live:
            last = told.last
            self.require(
                last is not None and bool(last["reason"]),
                "ends or holds with a reason",
                f"{told.entry.name} is silent",
            )
            strategy = told.release.strategy
            if isinstance(strategy, Experiment | Bandit) and told.entered and told.phase == "Progressing":
                lasted = now - datetime.fromisoformat(told.entered["at"]) - told.paused
                # where nothing is heard of what decides it, nobody can say that it found nothing; a person is told
                waits = (
                    last is not None
                    and last["state"]["alert"] is not None
                    and self._recount.is_deaf(last, told, ("guardrail", "decision"))
                )
                planned = strategy.max_duration + strategy.outcome_delay + timedelta(minutes=10)
                self.require(
                    waits or lasted <= planned,
                    "an experiment ends when its time is over",
                    f"{told.entry.name} has lasted {durations.format(lasted)}",
                )
        left = [name for name in queue if name not in {told.entry.name for told in self.told}]
        self.require(bool(live) or not left, "the queue moves", f"nothing is live, {left} wait")
        self.require(bool(self.told), "ends or holds with a reason", "the release never began")
        first = next((told for told in self.told if told.entry.name == scenario.release.name), None)
        if first is not None and not scenario.interfered:
            self._check_special(first)

    def _check_special(self, told: Told) -> None:
        scenario, phase = self._scenario, told.phase
        last: Record = told.last or {"reason": "", "state": {"alert": None}}
        if scenario.special in ("misspelled", "stuck", "crooked", "bothFail"):
            self.require(
                phase != "Promoted", "never promoted", f"{scenario.special}: promoted, {last['reason']}"
            )
        # a candidate that breaks its bound while nobody says how the champion does has only itself
        unseen = any(fault.kind == "partialMetrics" for fault in scenario.faults) and phase == "RolledBack"
        if scenario.special == "bothFail":
            self.require(
                phase in ("Progressing", "Paused") or last.get("check") == engine.BACKEND or unseen,
                "an outage is nobody's fault",
                f"both versions fail alike: {phase}, {last['reason']}",
            )
        if scenario.special in ("crooked", "bothFail"):
            alerted = last["state"]["alert"] is not None or phase in ("RolledBack", "Aborted", "Paused")
            self.require(alerted, "a hold that needs a person says so", f"{phase}: {last['reason']}")
        if scenario.special == "stuck" and phase not in ("RolledBack", "Paused", "Aborted"):
            ended = scenario.release.when_inconclusive == "hold" and last["state"]["alert"] is not None
            self.require(ended, "a stuck release ends or alerts", f"{phase}: {last['reason']}")
        if scenario.special == "refused":
            self.require(phase == "Aborted", "a refused release ends", f"{phase}: {last['reason']}")
