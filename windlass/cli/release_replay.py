"""`windlass release replay`: are the decisions of journals those that their evidence gives today?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.release.journal.store import Record

NOT_THE_SAME = 1
"""Exit code of a replay that decided otherwise."""


def register(actions: Any) -> None:
    from windlass.cli.release import add

    replay = add(
        actions,
        "replay",
        "decide a journal's decisions again and compare; exit code 1 where one differs",
        _replay,
        "windlass release replay .windlass/journal/releases",
    )
    replay.add_argument("path", type=Path, help="a journal, a folder of journals, or a report page")


def _replay(arguments: argparse.Namespace) -> int:
    from serving.release.journal.replay import replay
    from serving.release.people.words import count
    from windlass.cli.release import show
    from windlass.errors import UsageError, WindlassError

    releases, decisions, undecidable = 0, 0, 0
    differences: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    for place, records in _journals(arguments.path):
        if isinstance(records, str):
            unreadable.append({"file": str(place), "reason": records})
            continue
        try:
            found = replay(records)
        except (ValueError, WindlassError) as error:
            unreadable.append({"file": str(place), "reason": str(error)})
            continue
        releases += 1
        decisions += found.decisions
        undecidable += found.undecidable
        if found.unknown_rules is not None:
            unknown.append({"file": str(place), "release": found.release, "rules": found.unknown_rules})
        differences += [
            {
                "file": str(place),
                "release": found.release,
                "seq": difference.seq,
                "field": difference.field,
                "recorded": difference.recorded,
                "replayed": difference.replayed,
            }
            for difference in found.differences
        ]
    if not releases and not unreadable:
        raise UsageError(
            f"{arguments.path} holds no journal of a release; give a .jsonl, a report, or a folder"
        )
    content = {
        "releases": releases,
        "decisions": decisions,
        "undecidable": undecidable,
        "differences": differences,
        "unreadable": unreadable,
        "unknown_rules": unknown,
    }
    same = "all the same" if not differences else f"{len(differences)} fields differ"
    lines = [f"{count(decisions, 'decision')} of {count(releases, 'release')} decided again: {same}"]
    if undecidable:
        lines.append(
            f"{count(undecidable, 'decision')} cannot be decided again: their journals hold no paired values, or were "
            "decided by rules that are not known here"
        )
    lines += [
        f"  {u['file']}: decided by rules {u['rules']}, which this version does not know" for u in unknown
    ]
    lines += [f"  {u['file']}: not replayed: {u['reason']}" for u in unreadable]
    lines += [
        f"  {d['file']}: decision {d['seq']}, {d['field']}: recorded {d['recorded']!r}, now {d['replayed']!r}"
        for d in differences[:50]
    ]
    show(arguments, content, "\n".join(lines))
    return NOT_THE_SAME if differences or unreadable or unknown else 0


def _journals(path: Path) -> Iterator[tuple[Path, list[Record] | str]]:
    """Each journal with its records, or why it cannot be read; a folder may hold other files."""
    from windlass.errors import UsageError

    if path.is_dir():
        for inside in sorted(path.rglob("*")):
            if inside.suffix in (".jsonl", ".html") and inside.is_file() and (records := _records(inside)):
                yield inside, records
    elif path.is_file():
        records = _records(path)
        if records is None:
            raise UsageError(f"{path} is neither a release's journal nor a report with one")
        yield path, records
    else:
        raise UsageError(f"{path} does not exist; give a journal, a folder of journals or a report")


def _records(path: Path) -> list[Record] | str | None:
    """The records of a release's journal, or why they cannot be read; None of any other file."""
    from monitoring.report.one_release import EmbeddedError, embedded, extract
    from serving.release.journal import history
    from windlass.errors import WindlassError

    records: list[Record]
    try:
        if path.suffix == ".html":
            text = path.read_text()
            if f'id="{embedded.NAME}"' not in text:
                return None
            records = list(extract(text))
        else:
            records = history.records(path)
    except UnicodeDecodeError:
        return None
    except EmbeddedError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except WindlassError as error:
        return str(error) if _begins(path) else None
    begins = records and isinstance(records[0], dict) and records[0].get("kind") == "release"
    return records if begins else None


def _begins(path: Path) -> bool:
    """Whether a file that is no journal to its end is meant to be a release's: by its first line or its place."""
    from serving.release.journal.store import entry_of

    try:
        first = json.loads(path.read_bytes().partition(b"\n")[0])
    except ValueError:
        return entry_of(path).number > 0  # a journal's name begins with its number
    return isinstance(first, dict) and first.get("kind") == "release"
