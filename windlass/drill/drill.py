"""A drill, how it is played, and what all of them check in the same way."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitoring.rules.objectives import Objectives
from windlass.drill import alerts
from windlass.drill.alerts import Firing, Phase
from windlass.drill.orders import Order
from windlass.drill.record import Record
from windlass.drill.stage import MODEL, Stage
from windlass.drill.traffic import Asked
from windlass.errors import WindlassError

#: Times that the calm before a fault is looked for.
CALMS = 5


@dataclass(frozen=True)
class Drill:
    """What is documented of a drill; docs/drills.md is made of these.

    Attributes:
        name: as on the command line.
        fault: what is injected.
        alert: the documented alert.
        end_state: how it ends.
        proof: what proves that nothing was lost.
        play: injects, observes, and restores.
    """

    name: str
    fault: str
    alert: str
    end_state: str
    proof: str
    play: Callable[[Stage, Record], None]


def run(drill: Drill, folder: Path, say: Callable[[str], None] = lambda _: None) -> Record:
    """Play a drill in a scratch folder; one of an earlier drill saves the training.

    Raises:
        UsageError: something is in service in the folder, or it is no drill's.
    """
    stage = Stage(folder)
    record = Record(drill.name, say)
    with stage.own_environment():
        try:
            stage.prepare()
            record.note("prepared", f"a project with a trained model in {stage.folder}")
            drill.play(stage, record)
        except Exception as error:  # the others of `--all` are played all the same
            told = str(error) if isinstance(error, WindlassError) else f"{type(error).__name__}: {error}"
            where = traceback.format_exc()
            record.expect("state", f"the drill comes to its end (it did not: {told})", False, traceback=where)
        finally:
            stage.down()
    return record


def calm(stage: Stage, sent: list[Asked], asked: Sequence[Order]) -> Phase:
    """What two scrapes see around requests that are answered in the time that is promised; they are added to `sent`.

    One of so few that a busy machine holds up would be an alert, and no fault's: they are asked again. A platform that
    is slow is so each time.
    """
    for _ in range(CALMS):
        first = stage.scrape()
        sent += stage.ask(asked)
        found = Phase(first, stage.scrape())
        if not _slow(found):
            break
    return found


def _slow(phase: Phase) -> bool:
    """Whether more requests than may took longer than promised."""
    promised = Objectives()

    def grown(name: str, **labels: str) -> float:
        first, second = (s.value(name, **labels) or 0.0 for s in (phase.first, phase.second))
        return second - first

    every = grown("windlass_request_seconds_count")
    return (
        every - grown("windlass_request_seconds_bucket", le=promised.fast_seconds)
        > (1 - promised.fast) * every
    )


def rings(
    record: Record, alert: str, before: Phase, during: Phase, labels: Mapping[str, str] | None = None
) -> Firing:
    """Expect that the real rules give this alert for the pages of the fault, and none for those before it.

    Args:
        labels: what one of its label sets must hold.
    """
    found = alerts.evaluate(before, during)
    calm = ", ".join(found.before) or "none"
    record.expect(
        "alert",
        f"no alert fires before the fault (there fires: {calm})",
        not found.before,
        before={name: [dict(s) for s in sets] for name, sets in found.before.items()},
    )
    sets = found.during.get(alert, ())
    wanted = dict(labels or {})
    right = [s for s in sets if wanted.items() <= s.items()]
    with_labels = f" with {', '.join(f'{k}={v}' for k, v in wanted.items())}" if wanted else ""
    others = ", ".join(sorted(set(found.during) - {alert})) or "no other"
    record.expect(
        "alert",
        f"{alert} fires{with_labels} (beside it: {others})",
        bool(right),
        labels=[dict(s) for s in sets],
        others={name: [dict(s) for s in sets] for name, sets in found.during.items() if name != alert},
    )
    return found


def kept(stage: Stage, record: Record, asked: Sequence[Asked], *, dropped: int = 0) -> None:
    """End the platform in order, and expect that every answered request is in the collector's store exactly once.

    Args:
        dropped: so many the server counts as not logged: these alone may be missing.
    """
    from monitoring.collector.reading import Events

    stage.down()
    answers = [a.request_id for a in asked if a.status == 200]
    answered = set(answers)
    stored = Counter(i for i in Events(stage.settings).window(MODEL).request_ids if i in answered)
    # of two answers with one name the store would hold one
    missing, twice = len(answers) - len(stored), sum(n > 1 for n in stored.values())
    record.expect(
        "lost",
        f"each of {len(answers)} answered requests is stored once"
        + (f", but for {dropped} that the server counts as not logged" if dropped else "")
        + f" ({missing} missing, {twice} twice)",
        bool(answers) and missing == dropped and not twice,
        answered=len(answers),
        missing=missing,
        twice=twice,
    )


def labelled(stage: Stage, record: Record, asked: Sequence[Asked]) -> None:
    """Expect that the label of every answered request is with its prediction in the store."""
    import math

    from monitoring.collector.reading import Events

    window = Events(stage.settings).window(MODEL)
    known = {i for i, label in zip(window.request_ids, window.labels, strict=True) if not math.isnan(label)}
    ids = {a.request_id for a in asked if a.status == 200}
    missing = len(ids - known)
    record.expect(
        "lost",
        f"each of {len(ids)} labels is with its prediction ({missing} missing)",
        bool(ids) and not missing,
    )
