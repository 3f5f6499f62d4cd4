"""The planted bugs themselves, by the part of the engine that they are in; `bugs.py` says what they are."""

from __future__ import annotations

from serving.release.simulation.bugs import Bug

_STEP = "if answered < step.min_samples:"

ENGINE = (
    Bug(
        "errors at the final step are not looked at",
        "engine",
        '    failed = _failed(seen, "guardrail")\n    if failed:\n',
        '    failed = _failed(seen, "guardrail")\n'
        '    steps = getattr(state.release.strategy, "steps", ())\n'
        "    if failed and state.step != len(steps) - 1:\n",
        known="argoproj/argo-rollouts#943: the experiment at the last step is over while its analysis still fails",
    ),
    Bug(
        "a failing guardrail is announced and nothing follows",
        "engine",
        '    failed = _failed(seen, "guardrail")\n    if failed:\n        return _reject(seen, failed)\n',
        '    failed = _failed(seen, "guardrail")\n    if failed:\n'
        "        news = failed[0].check if failed[0].check != state.alert else None\n"
        "        told = replace(seen.state, alert=failed[0].check)\n"
        '        return seen.decide("hold", failed[0].reason, told, alert=news)\n',
        known="argoproj/argo-rollouts#1411: a failed analysis run does not stop the rollout",
    ),
    Bug(
        "failures above the threshold are not acted on while somebody must confirm",
        "engine",
        "    seen = look(state, evidence, now)\n",
        "    seen = look(state, evidence, now)\n"
        '    if state.phase == "Paused":\n        return seen.decide("hold", "paused by a person")\n',
        known="fluxcd/flagger#1801: no rollback on a breached threshold while confirm-traffic-increase waits",
    ),
    Bug(
        "a failed decision metric rejects nobody",
        "engine",
        '    failed = _failed(seen, "decision")\n    if failed:\n',
        '    failed = _failed(seen, "decision")\n    if not seen.verdicts:\n',
    ),
    Bug(
        "a measurement that ended in an error counts as a success",
        "engine",
        '        if verdict.outcome == "ERROR":\n',
        '        if verdict.outcome == "BROKEN":\n',
        known="argoproj/argo-rollouts#4479: successful when every measurement is errored or failed",
    ),
    Bug(
        "arms that did not get their shares are compared all the same",
        "engine",
        '    if ratio.outcome == "FAIL":\n',
        '    if ratio.outcome == "ERROR":\n',
    ),
    Bug(
        "an outage is the candidate's fault or nobody's",
        "engine",
        "    return _outage(seen)\n",
        "    return None\n",
    ),
    Bug(
        "a fault that both versions share is no news",
        "engine",
        "    for name in seen.shared:\n",
        "    for name in ():\n",
    ),
    Bug(
        "no progress is told to nobody",
        "strategies.holding",
        "        alert = alert or late\n",
        "        alert = alert or None\n",
    ),
    Bug(
        "whenInconclusive is not asked",
        "strategies.holding",
        'if state.release.when_inconclusive == "abort" and',
        'if state.release.when_inconclusive == "never" and',
    ),
    Bug(
        "the same alert at every look",
        "strategies.holding",
        '    news = alert if alert != state.alert else None\n    return seen.decide("hold"',
        '    news = alert\n    return seen.decide("hold"',
    ),
    Bug(
        "a rollback leaves the alias where it was",
        "engine",
        "now, after, champion=target)\n",
        "now, after)\n",
    ),
    Bug(
        "no rollback once it is promoted",
        "engine",
        '(to is not None or state.live or state.phase == "Promoted")',
        "state.live",
        known="fluxcd/flagger#1588: a canary that is being promoted cannot be rolled back",
    ),
    Bug(
        "a pause does not pause",
        "engine",
        'replace(state, phase="Paused", paused_at=now)',
        "replace(state, paused_at=now)",
    ),
    Bug(
        "the time of a pause counts as observed",
        "engine",
        "None if moment is None else moment + pause\n",
        "None if moment is None else moment\n",
    ),
    Bug(
        "a router that refuses for ever is asked for ever",
        "engine",
        "    if failures < TRIES:\n",
        "    if failures < 100 * TRIES:\n",
        known="fluxcd/flagger#1591: promotion goes on for ever when its deadline is exceeded",
    ),
    Bug(
        "a person's promotion gives the champion the traffic",
        "engine",
        'phase="Promoted", traffic=all_to(winner))',
        'phase="Promoted", traffic=all_to(state.champion))',
    ),
    Bug(
        "a person's abort leaves the candidate its traffic",
        "engine",
        'phase="Aborted", traffic=all_to(state.champion))\n        return Decision("abort", f"aborted',
        'phase="Aborted")\n        return Decision("abort", f"aborted',
    ),
)

LOOK = (
    Bug(
        "a metric that does not exist is as good as one that holds",
        "strategies.watching",
        "    verdict = seen.verdict(check.name, version)\n",
        "    verdict = seen.verdict(check.name, version)\n    if verdict.n == 0:\n        return None\n",
        known="fluxcd/flagger#1581: a metric without a template always passes",
    ),
    Bug(
        "counts that go backwards are taken",
        "look",
        "    if any(seen[version].n < before.get(version, Counts()).n for version in seen):\n",
        "    if not seen:\n",
    ),
    Bug(
        "an outage is forgotten at a look that saw nothing new",
        "look",
        "        return state.window, {} if state.rules == 1 else state.outage\n",
        "        return state.window, {}\n",
    ),
    Bug(
        "paired values are never checked",
        "look",
        '            return counts.difference_fault(self.evidence.paired.get("brier", ()))\n',
        "            return None\n",
    ),
    Bug(
        "a source that is silent has passed",
        "checks",
        'return Verdict(check.name, check.kind, "INCONCLUSIVE", 0, rule, f"source {check.source}: {reason}")',
        'return Verdict(check.name, check.kind, "PASS", 10**6, rule, f"source {check.source}: {reason}")',
    ),
    Bug(
        "more errors than requests make sense",
        "counts",
        " or counts.events > counts.n:\n        return f",
        " or counts.events < counts.n < 0:\n        return f",
    ),
    Bug(
        "the arms are compared the wrong way round",
        "checks",
        "        harm=arms.watch(before.harm, batch, allowed),\n",
        "        harm=arms.watch(before.harm, batch.swapped(), allowed),\n",
    ),
    Bug(
        "evidence for safety is taken for harm",
        "checks",
        'return "FAIL" if harm >= needed else "PASS" if safe >= needed else "INCONCLUSIVE"',
        'return "FAIL" if safe >= needed else "PASS" if harm >= needed else "INCONCLUSIVE"',
    ),
    Bug(
        "any number of pairs that leans the right way passes",
        "checks",
        'outcome = "PASS" if upper < margin else "FAIL" if lower > margin else "INCONCLUSIVE"',
        'outcome = "PASS" if lower < margin else "FAIL" if lower > margin else "INCONCLUSIVE"',
    ),
    Bug(
        "better and worse are mixed up",
        "effects",
        '{"better": "PASS", "worse": "FAIL", "none": "INCONCLUSIVE"}',
        '{"better": "FAIL", "worse": "PASS", "none": "INCONCLUSIVE"}',
    ),
    Bug(
        "a decision is taken on next to no evidence",
        "statistics.comparison",
        '    """What the evidence of one look decides."""\n    needed = math.log(2 / design.alpha)\n',
        '    """What the evidence of one look decides."""\n    needed = math.log(2 / design.alpha) / 1000\n',
    ),
    Bug(
        "the champion's events do not speak for the candidate",
        "statistics.arms",
        "held + batch.candidate_events * ours + batch.champion_events * theirs + neither * quiet\n",
        "held + batch.candidate_events * ours + neither * quiet\n",
    ),
    Bug(
        "a distance is bet on the wrong side",
        "checks",
        "    harm = betting.log_evidence_above(sample, bound, betting.RATE_BETS)\n"
        "    safe = betting.log_evidence_below(sample, bound, betting.RATE_BETS)\n"
        "    lower, upper = betting.bounds(sample, alpha, betting.RATE_BETS, 1e-4)\n",
        "    safe = betting.log_evidence_above(sample, bound, betting.RATE_BETS)\n"
        "    harm = betting.log_evidence_below(sample, bound, betting.RATE_BETS)\n"
        "    lower, upper = betting.bounds(sample, alpha, betting.RATE_BETS, 1e-4)\n",
    ),
)

STRATEGIES = (
    Bug("minSamples is not asked", "strategies.canary", f"    {_STEP}\n", "    if answered < 0:\n"),
    Bug(
        "minDuration is not asked",
        "strategies.canary",
        "    if (early := watching.too_early(seen, step.min_duration)) is not None:\n        return early\n",
        "",
    ),
    Bug(
        "the last step promotes unless the decision has failed",
        "strategies.canary",
        'elif check.kind == "decision" and _is_last(state) and verdict.outcome != "PASS":',
        'elif check.kind == "decision" and _is_last(state) and verdict.outcome == "FAIL":',
    ),
    Bug(
        "the last step is left out",
        "strategies.canary",
        "    return state.step == len(_strategy(state).steps) - 1\n",
        "    return state.step >= len(_strategy(state).steps) - 2\n",
    ),
    Bug(
        "the champion keeps its hundred",
        "strategies.canary",
        "weights = {state.champion: 100 - weight, candidate: weight}",
        "weights = {state.champion: 100, candidate: weight}",
    ),
    Bug(
        "failed smoke requests are no obstacle",
        "strategies.blue_green",
        "    if smoke is not None and smoke.failed:\n",
        "    if smoke is None:\n",
    ),
    Bug(
        "the switch does not wait for smoke requests",
        "strategies.blue_green",
        '            return Obstacle(SMOKE, "no smoke request was answered yet")\n',
        "            return None\n",
    ),
    Bug(
        "blue is not kept warm",
        "strategies.blue_green",
        "    return watching.too_early(seen, strategy.keep_warm)\n",
        "    return None\n",
    ),
    Bug(
        "a shadow answers users",
        "strategies.shadow",
        "traffic = Traffic({state.champion: 100}, mirror_to=candidate",
        "traffic = Traffic({state.champion: 90, candidate: 10}, mirror_to=candidate",
    ),
    Bug(
        "a shadow may go on while its decision is open",
        "strategies.shadow",
        '        elif check.kind == "decision" and verdict.outcome != "PASS":\n',
        '        elif check.kind == "decision" and verdict.outcome == "FAIL":\n',
    ),
    Bug(
        "whoever looks best wins the experiment",
        "strategies.experiment",
        '    passed = [verdict for verdict in _decisions(seen) if verdict.outcome == "PASS"]\n',
        '    passed = [verdict for verdict in _decisions(seen) if verdict.outcome != "FAIL"]\n',
    ),
    Bug(
        "an experiment has no end",
        "strategies.experiment",
        "    if seen.now < over:\n",
        "    if seen.now < over + 100 * strategy.max_duration:\n",
    ),
    Bug(
        "nothing heard of an experiment is nothing found",
        "strategies.experiment",
        "    if (blind := unjudged(seen, over)) is not None:\n",
        "    if (blind := None) is not None:\n",
    ),
    Bug(
        "nothing heard of a bandit is nothing found",
        "strategies.bandit",
        "        if (blind := unjudged(seen, over)) is not None:\n",
        "        if (blind := None) is not None:\n",
    ),
    Bug(
        "weights follow rewards that did not come",
        "strategies.bandit",
        "    if obstacle.alert is not None or seen.evidence.silent:\n",
        "    if obstacle.alert is not None:\n",
    ),
    Bug(
        "who is out of a bandit comes back with the next update",
        "strategies.bandit",
        "version in state.dropped)\n        for version in order\n    ]",
        "False)\n        for version in order\n    ]",
    ),
    Bug(
        "who is out keeps its traffic",
        "strategies.ending",
        "    gone = {*out, *state.dropped}\n",
        "    gone = {*state.dropped}\n",
    ),
    Bug(
        "a promotion forgets the alias",
        "strategies.ending",
        "return seen.decide(action, reason, after, check=check, champion=winner)",
        "return seen.decide(action, reason, after, check=check)",
    ),
    Bug(
        "a rollback leaves the canary's route in place",
        "strategies.ending",
        "    after = replace(state, phase=phase, traffic=all_to(state.champion))\n",
        "    after = replace(state, phase=phase, traffic=replace(state.traffic, weights={state.champion: 100}))\n",
        known="kserve/kserve#2130: a canary's route stays behind after it was rolled back",
    ),
    Bug(
        "the samples of earlier steps count again",
        "strategies.ending",
        '    base = {"requests": sum(',
        '    base = {"requests": 0 * sum(',
    ),
    Bug(
        "the time of earlier steps counts again",
        "strategies.ending",
        "        step_started_at=now,\n",
        "        step_started_at=state.step_started_at or now,\n",
    ),
    Bug(
        "a step is over before its time",
        "strategies.watching",
        "    if lasted >= least:\n",
        "    if lasted <= least:\n",
    ),
)

CONTROLLER = (
    Bug(
        "the act before the journal",
        "controller",
        "        self._store.append(current.entry, record)\n        paired =",
        "        if decision.acts:\n            self._backend.set_traffic(model, decision.traffic)\n"
        "        self._store.append(current.entry, record)\n        paired =",
    ),
    Bug(
        "confirmed before it is done",
        "controller",
        "        try:\n            # users first",
        '        self._store.append(current.entry, {"kind": "confirmed", "seq": record["seq"]})\n'
        "        try:\n            # users first",
    ),
    Bug(
        "the alias never moves",
        "controller",
        '            if record["champion"] is not None:\n',
        '            if record["champion"] == "":\n',
    ),
    Bug(
        "a refused change is taken for done",
        "controller",
        "            self._note_failure(model, record, error)\n            raise\n",
        "            self._note_failure(model, record, error)\n",
    ),
    Bug(
        "an order leaves the mailbox before it is carried out",
        "controller",
        "        for token, order in self._commands.waiting():\n",
        "        for token, order in self._commands.waiting():\n            self._commands.done(token)\n",
    ),
    Bug(
        "what somebody else did to the route stays",
        "controller",
        "        if shown == admission.canonical(current.state.traffic):\n",
        "        if shown.weights:\n",
    ),
    Bug(
        "a second release of the model begins beside the first",
        "controller",
        "            return self._conflict(release, current)\n",
        "            pass\n",
    ),
    Bug(
        "who came last begins first",
        "controller",
        "        for name, document in self._store.queued(model):\n",
        "        for name, document in reversed(self._store.queued(model)):\n",
    ),
    Bug(
        "an advance overtakes what is not in force",
        "controller",
        '        if decision.action not in ("roll_back", "drop"):\n',
        '        if decision.action == "hold":\n',
    ),
    Bug(
        "the next release begins with the champion that was just rolled back",
        "controller",
        '            champion = pending["champion"]  # the alias moves there before anything else begins\n',
        "            pass\n",
    ),
    Bug(
        "a document that arrives late blocks the queue",
        "controller",
        "            if not self._begun(model, name):\n",
        "            if name:\n",
    ),
    Bug(
        "what was not confirmed is forgotten by a restart",
        "journal.history",
        "                unconfirmed, failures, noted, given_up_by = record, 0, False, None\n",
        "                failures, noted, given_up_by = 0, False, None\n",
    ),
    Bug(
        "a restart forgets when the pause began",
        "state",
        '_TIMES = ("started_at", "step_started_at", "updated_at", "paused_at", "dropped_at", "blocked_since")',
        '_TIMES = ("started_at", "step_started_at", "updated_at", "dropped_at", "blocked_since")',
    ),
    Bug(
        "a restart forgets the evidence of the decision metric",
        "state",
        "for name, value in asdict(memory).items() if value != _UNUSED[name]",
        'for name, value in asdict(memory).items() if value != _UNUSED[name] and name != "effect"',
    ),
    Bug(
        "drift of the route counts against the candidate for ever",
        "state",
        "return state if state.rules == 1 else",
        "return state if state.rules else",
    ),
)

BUGS: tuple[Bug, ...] = (*ENGINE, *LOOK, *STRATEGIES, *CONTROLLER)
