"""A check over its columns: one verdict, and the sentence that a person reads first."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.detection.result import Check, CheckJudgement, ColumnJudgement, QualityJudgement
from monitoring.verdict import Verdict

NAMED = 3


def drift_check(check: Check, columns: Sequence[ColumnJudgement]) -> CheckJudgement:
    """FAIL while an incident of any column is on; INCONCLUSIVE where no column could be judged."""
    ringing = sorted((c for c in columns if c.alarm), key=lambda c: -(c.evidence or 0.0))
    judged = [c for c in columns if c.evidence is not None]
    blind = [c for c in judged if c.verdict == "INCONCLUSIVE"]
    unseen = [c for c in columns if c.evidence is None]
    if ringing:
        reason = "; ".join(_sentence(c) for c in ringing[:NAMED])
        if len(ringing) > NAMED:
            reason += f"; and {len(ringing) - NAMED} more"
    elif not judged:
        reason = "too few rows or days to judge any column"
    elif len(blind) == len(judged):
        reason = "no interval is narrow enough to say that nothing happened"
    else:
        reason = f"none of {len(judged)} columns changed by more than what matters, beyond its noise"
        if blind:
            reason += f"; {len(blind)} not resolved ({', '.join(c.column for c in blind[:NAMED])})"
        if unseen:
            reason += (
                f"; {len(unseen)} without values to compare ({', '.join(c.column for c in unseen[:NAMED])})"
            )
    verdict: Verdict = "PASS"
    if ringing:
        verdict = "FAIL"
    elif len(blind) == len(judged):
        verdict = "INCONCLUSIVE"
    names = tuple(c.column for c in ringing)
    # a check rings anew with its first column; one that joins an incident is not another alarm of the check
    began = bool(ringing) and all(c.new for c in ringing)
    return CheckJudgement(check, verdict, reason, bool(ringing), began, names)


def quality_check(quality: Sequence[QualityJudgement]) -> CheckJudgement:
    """FAIL while any column is broken in any way; INCONCLUSIVE where none could be looked at."""
    broken = sorted((q for q in quality if q.failed), key=lambda q: -q.lower)
    names = tuple(dict.fromkeys(q.column for q in broken))
    if broken:
        reason = "; ".join(_quality_sentence(q) for q in broken[:NAMED])
        return CheckJudgement("dataQuality", "FAIL", reason, True, all(q.new for q in broken), names)
    if not quality:
        return CheckJudgement(
            "dataQuality", "INCONCLUSIVE", "too few rows or days to judge any column", False, False
        )
    columns = len({q.column for q in quality})
    return CheckJudgement("dataQuality", "PASS", f"{columns} columns as at training", False, False)


def _sentence(column: ColumnJudgement) -> str:
    if column.effect is None or column.lower is None or column.upper is None:
        return f"{column.column}: not judged at this look, rang before"
    return (
        f"{column.column}: {column.statistic} {column.effect:+.2f} "
        f"({column.lower:.2f} to {column.upper:.2f}, matters from {column.threshold:g}) over {column.span} days"
    )


def _quality_sentence(quality: QualityJudgement) -> str:
    if quality.check == "unit":
        return (
            f"{quality.column}: magnitudes {quality.share:.3g} times those at training; has its unit changed?"
        )
    what = {"nulls": "missing", "range": "out of the range seen", "category": "of unknown categories"}
    return f"{quality.column}: {quality.share:.1%} {what[quality.check]}, {quality.expected:.1%} at training"
