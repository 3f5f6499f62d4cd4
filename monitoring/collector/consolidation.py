"""From the journal into the store: `python -m monitoring.collector.consolidation`, a process of its own.

The process that acknowledges starts one every half minute: what this costs in time and memory never stands between a
caller and an answer, and a consolidation that dies is done again. One commit takes some segments, writes their parts
and index runs, and then the manifest, which names these and the first segment that is not among them. Before that
rename nothing has happened; after it the segments are superfluous, and removing them late does no harm.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from monitoring.collector import index as indexes
from monitoring.collector import labelling, manifest, pairing, parts, wal
from monitoring.collector.labelling import Kept, Target
from monitoring.collector.manifest import Kind, Manifest, Part
from monitoring.collector.names import Names
from monitoring.collector.options import DAY_S, Options
from monitoring.collector.place import Place, place, root
from windlass import settings, telemetry
from windlass.errors import WindlassError
from windlass.settings import Settings

EPOCH_DAY = np.datetime64("1970-01-01", "D")
#: a commit takes closed segments up to about so many bytes
COMMIT_BYTES = wal.SEGMENT_BYTES
#: of a kept label, what the index remembers
KEPT = ("label", "reward", "per", "covariate", "at", "received")


@dataclass
class Batch:
    """The events of some segments, by what they are."""

    predictions: list[dict[str, Any]]
    halves: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    offsets: dict[str, dict[str, Any]]
    counts: dict[str, int]


def read_batch(lines: Sequence[bytes]) -> Batch:
    """Sort the lines of a journal."""
    batch = Batch([], [], [], {}, {})
    places = {
        "prediction": batch.predictions, "request": batch.halves, "response": batch.halves, "label": batch.labels,
    }  # fmt: skip
    for line in lines:
        entry = orjson.loads(line)
        kind = entry["type"]
        if kind == "offsets":
            batch.offsets.setdefault(entry["of"], {}).update(entry["files"])
        else:
            places[kind].append(entry)
    return batch


class Consolidation:
    """The writing end of the store; the lock that `holding` takes makes it the only one."""

    def __init__(self, configured: Settings, options: Options, *, now: float) -> None:
        self._folder = root(configured)
        self._place: Place = place(configured)
        self._names = Names(configured)
        self._options = options
        self._now = now
        content = self._place.read(manifest.NAME)
        self.manifest = Manifest() if content is None else manifest.decode(content, manifest.NAME)
        self._indexes = {
            name: indexes.Index(name, self._folder, self.manifest.runs) for name in indexes.COLUMNS
        }

    # --- one commit

    def take(self, segments: Sequence[tuple[int, wal.Content]]) -> Manifest:
        """Bring some segments into the store and remove nothing."""
        generation = self.manifest.generation + 1
        batch = read_batch([line for _, content in segments for line in content.lines])
        for _, content in segments:
            _count(batch.counts, "wal.torn", int(content.torn > 0))
            _count(batch.counts, "wal.damaged", int(content.damaged))
        models = list(self.manifest.models)
        seen: list[indexes.Rows] = []
        rows, held = self._rows(batch, models, seen)
        inputs = self._inputs(rows)
        arrived, predicted = self._arrived(rows, models)
        labelled = self._label(batch, arrived, models)
        made = self._write(generation, rows, labelled, inputs, models)
        held_path = self._write_held(generation, held)
        runs, gone = self._index(generation, seen, predicted, labelled, models, made)
        before = self.manifest.held
        offsets = {
            name: {**self.manifest.offsets.get(name, {}), **batch.offsets.get(name, {})}
            for name in {*self.manifest.offsets, *batch.offsets}
        }
        done = self.commit(
            replace(
                self.manifest,
                wal=max(number for number, _ in segments) + 1,
                parts=(*self.manifest.parts, *made),
                runs=runs,
                models=tuple(models),
                inputs=inputs,
                held=held_path,
                offsets=offsets,
                counts=manifest.counted(self.manifest.counts, batch.counts),
            )
        )
        # nobody else reads these
        for path in gone:
            (self._folder / path).unlink(missing_ok=True)
        if before is not None:
            self._place.remove(before)
        return done

    def commit(self, changed: Manifest) -> Manifest:
        """Make a manifest the one that holds."""
        done = replace(changed, generation=self.manifest.generation + 1, written=self._now)
        self._place.write(manifest.NAME, manifest.encode(done))
        self.manifest = done
        return done

    # --- the steps

    def _rows(
        self, batch: Batch, models: list[str], seen: list[indexes.Rows]
    ) -> tuple[list[dict[str, Any]], list[pairing.Entry]]:
        """New predictions, each once, and halves to hold; what was seen is added to `seen`."""
        names = [_half_key(half) for half in batch.halves]
        days = [_day(half["at"]) for half in batch.halves]
        owners = [_number_of(models, half["model"]) for half in batch.halves]
        new = self._unseen(names, days, owners, seen)
        halves = [half for half, fresh in zip(batch.halves, new, strict=True) if fresh]
        for half, fresh in zip(batch.halves, new, strict=True):
            if not fresh:
                _count(batch.counts, f"duplicates.{half['type']}")
        held: list[pairing.Entry] = []
        if self.manifest.held is not None:
            content = self._place.read(self.manifest.held)
            if content is None:
                raise WindlassError(f"the store lacks {self.manifest.held}; restore it from a backup")
            held = [orjson.loads(line) for line in content.splitlines()]
        paired = pairing.pair(
            halves, held, expired=self._now - self._options.hold_s, most=self._options.most_held
        )
        made = [*batch.predictions, *paired.rows]
        names = [_row_key(row) for row in made]
        days = [_day(row["at"]) for row in made]
        owners = [_number_of(models, row["model"]) for row in made]
        new = self._unseen(names, days, owners, seen)
        # a half that lost its other one is superfluous where the whole is stored: its index was rebuilt since
        lonely = [i for i, row in enumerate(made) if pairing.INCOMPLETE in row and new[i]]
        if lonely:
            known = self._indexes["seen"].has(indexes.keys(_row_key(made[i], whole=True) for i in lonely))
            for i, superfluous in zip(lonely, known, strict=True):
                new[i] = not superfluous
        rows = []
        for row, fresh in zip(made, new, strict=True):
            if fresh:
                rows.append(row)
                _count(batch.counts, "stored.prediction")
                if pairing.INCOMPLETE in row:
                    _count(batch.counts, f"incomplete.{row[pairing.INCOMPLETE]}")
            else:
                _count(batch.counts, "duplicates.prediction")
        return rows, paired.held

    def _unseen(
        self, names: list[str], days: list[int], owners: list[int], seen: list[indexes.Rows]
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of the keys are new, each the first time only; those go into `seen`."""
        if not names:
            return np.empty(0, dtype=bool)
        keys = indexes.keys(names)
        new = indexes.first_of_each(keys) & ~self._indexes["seen"].has(keys)
        columns = {**keys, "model": np.array(owners), "day": np.array(days)}
        seen.append({c: values[new] for c, values in columns.items()})
        return new

    def _inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[str, ...]]]:
        """Names of every version's inputs; a version keeps those that it was first stored with."""
        found = {m: dict(v) for m, v in self.manifest.inputs.items()}
        for row in rows:
            vector = row["features"]
            if vector and row["version"] not in found.setdefault(row["model"], {}):
                names = self._names.inputs(row["model"], row["version"])
                fitting = names if len(names) == len(vector) else tuple(map(str, range(len(vector))))
                found[row["model"]][row["version"]] = fitting
        return found

    def _arrived(
        self, rows: Sequence[Mapping[str, Any]], models: list[str]
    ) -> tuple[dict[str, list[Target]], indexes.Rows]:
        """The predictions of this batch, by request id, and as rows for the index."""
        arrived: dict[str, list[Target]] = {}
        for row in rows:
            target = Target((row["model"], _day(row["at"])), row["at"])
            targets = arrived.setdefault(row["request_id"], [])
            if all(other.partition != target.partition for other in targets):
                targets.append(target)
        flat = [(name, target) for name, targets in arrived.items() for target in targets]
        keys = indexes.keys(name for name, _ in flat)
        return arrived, {
            **keys,
            "model": np.array([_number_of(models, t.partition[0]) for _, t in flat], dtype="<i4"),
            "day": np.array([t.partition[1] for _, t in flat], dtype="<i4"),
            "at": np.array([t.at for _, t in flat]),
        }

    def _label(
        self, batch: Batch, arrived: Mapping[str, list[Target]], models: Sequence[str]
    ) -> labelling.Labelled:
        asked = list(dict.fromkeys([*(label["request_id"] for label in batch.labels), *arrived]))
        keys = indexes.keys(asked)
        at, found = self._indexes["labelled"].find(keys)
        known = {
            asked[position]: Kept(*(float(found[name][i]) for name in KEPT)) for i, position in enumerate(at)
        }
        at, found = self._indexes["predicted"].find(keys)
        predicted: dict[str, list[Target]] = {}
        for i, position in enumerate(at):
            partition = (models[int(found["model"][i])], int(found["day"][i]))
            predicted.setdefault(asked[position], []).append(Target(partition, float(found["at"][i])))
        labelled = labelling.judge(
            batch.labels,
            arrived,
            known=known,
            predicted=predicted,
            late_s=self._options.late_days * DAY_S,
        )
        for outcome, count in labelled.outcomes.items():
            _count(batch.counts, f"labels.{outcome}", count)
        return labelled

    def _write(
        self,
        generation: int,
        rows: Sequence[dict[str, Any]],
        labelled: labelling.Labelled,
        inputs: Mapping[str, Mapping[str, tuple[str, ...]]],
        models: Sequence[str],
    ) -> list[Part]:
        groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault((row["model"], _day(row["at"])), []).append(row)
        made = []
        for (model, day), group in groups.items():
            table = parts.predictions(group, inputs.get(model, {}))
            versions = tuple(dict.fromkeys(table["version"].to_pylist()))
            made.append(self.put("predictions", model, _date(day), generation, table, group, versions))
        for (model, day), group in labelled.placed.items():
            made.append(self.put("labels", model, _date(day), generation, parts.labels(group), group))
        for kind, some in (("early", labelled.early), ("contradictions", labelled.contradicted)):
            days: dict[int, list[dict[str, Any]]] = {}
            for row in some:
                days.setdefault(_day(row["received"]), []).append(row)
            for day, group in days.items():
                made.append(
                    self.put(
                        "early" if kind == "early" else "contradictions", "", _date(day), generation,
                        parts.labels(group), group,
                    )
                )  # fmt: skip
        return made

    def put(
        self,
        kind: Kind,
        model: str,
        date: str,
        generation: int,
        table: Any,
        rows: Sequence[Mapping[str, Any]],
        versions: tuple[str, ...] = (),
    ) -> Part:
        """Write one part; it is none before a manifest names it."""
        between = min(row["at"] for row in rows), max(row["at"] for row in rows)
        return self.put_table(kind, model, date, generation, table, between, versions)

    def put_table(
        self,
        kind: Kind,
        model: str,
        date: str,
        generation: int,
        table: Any,
        between: tuple[float, float],
        versions: tuple[str, ...],
    ) -> Part:
        """Write a table as a part of a partition."""
        folder = f"{kind}/model={model}/date={date}" if model else f"{kind}/date={date}"
        path = f"{folder}/g{generation:09d}.parquet"
        with self._place.writing(path) as temporary:
            parts.write(table, temporary)
            size = temporary.stat().st_size
        return Part(kind, model, date, path, table.num_rows, size, *between, versions)

    def _write_held(self, generation: int, held: Sequence[pairing.Entry]) -> str | None:
        if not held:
            return None
        path = f"held/g{generation:09d}.jsonl"
        self._place.write(path, b"".join(orjson.dumps(half) + b"\n" for half in held))
        return path

    def _index(
        self,
        generation: int,
        seen: list[indexes.Rows],
        predicted: indexes.Rows,
        labelled: labelling.Labelled,
        models: Sequence[str],
        made: Sequence[Part],
    ) -> tuple[tuple[manifest.Run, ...], list[str]]:
        newest = newest_days((*self.manifest.parts, *made))
        kept = labelled.kept.values()
        labels: indexes.Rows = {
            **indexes.keys(labelled.kept),
            "day": np.array([_day(k.received) for k in kept], dtype="<i4"),
            **{c: np.array([getattr(k, c) for k in kept], dtype="<f8") for c in KEPT},
        }
        oldest = np.array([newest.get(m, -(2**30)) for m in models] or [0])
        rows = {
            "seen": indexes.joined(seen, "seen"),
            "predicted": predicted,
            "labelled": labels,
        }
        today = _day(self._now)
        keep = {
            "seen": lambda c: c["day"] >= oldest[c["model"]] - self._options.keep_predictions_days,
            "predicted": lambda c: c["day"] >= oldest[c["model"]] - self._options.keep_predictions_days,
            "labelled": lambda c: c["day"] >= today - self._options.keep_labels_days,
        }
        gone: list[str] = []
        for name, index in self._indexes.items():
            gone += index.add(rows[name], f"index/{name}/g{generation:09d}.run", keep[name])
        return tuple(run for index in self._indexes.values() for run in index.runs), gone


def newest_days(known: Sequence[Part]) -> dict[str, int]:
    """The newest day with predictions of each model, in days since 1970."""
    newest: dict[str, int] = {}
    for part in known:
        if part.kind == "predictions":
            day = day_of(part.date)
            newest[part.model] = max(day, newest.get(part.model, day))
    return newest


def _day(moment: float) -> int:
    return int(moment // DAY_S)


def day_of(date: str) -> int:
    return int((np.datetime64(date, "D") - EPOCH_DAY).astype(int))


def _date(day: int) -> str:
    return str(EPOCH_DAY + day)


def _half_key(half: Mapping[str, Any]) -> str:
    return indexes.SEPARATOR.join(("event", half["source"], half["type"], half["id"]))


def _row_key(row: Mapping[str, Any], *, whole: bool = False) -> str:
    part = "" if whole else row.get(pairing.INCOMPLETE, "")
    return indexes.SEPARATOR.join(
        ("row", row["model"], row["version"], "1" if row["mirrored"] else "0", part, row["request_id"])
    )


def _number_of(models: list[str], model: str) -> int:
    if model not in models:
        models.append(model)
    return models.index(model)


def _count(counts: dict[str, int], name: str, more: int = 1) -> None:
    if more:
        counts[name] = counts.get(name, 0) + more


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Be the only one who writes the store; wait for another one to end."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / "consolidation.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def groups(folder: Path, first: int, until: int) -> Iterator[list[tuple[int, wal.Content]]]:
    """The segments from `first` up to `until` (exclusive), read, in groups of about `COMMIT_BYTES`."""
    group: list[tuple[int, wal.Content]] = []
    size = 0
    for number in wal.numbers(folder):
        if not first <= number < until:
            continue
        data = wal.path(folder, number).read_bytes()
        if group and size + len(data) > COMMIT_BYTES:
            yield group
            group, size = [], 0
        content = wal.content(data)
        if content.damaged:
            # what cannot be read may still be read by a person
            copy = wal.path(folder, number).with_suffix(".damaged")
            copy.write_bytes(data)
            sys.stderr.write(
                f"windlass collector: {copy}: {content.torn} bytes of the journal are damaged and left out\n"
            )
        group.append((number, content))
        size += len(data)
    if group:
        yield group


def consolidate(configured: Settings, options: Options, until: int, *, now: float) -> Manifest:
    """Bring every segment below `until` into the store, then compact it and remove what is past its time.

    Raises:
        WindlassError: the disk or the object store did not take it; what is not in the store is in the journal.
    """
    from monitoring.collector.maintenance import maintain

    folder = root(configured) / "wal"
    with holding(root(configured)):
        work = Consolidation(configured, options, now=now)
        _remove_taken(folder, work.manifest.wal)
        for group in groups(folder, work.manifest.wal, until):
            work.take(group)
            _remove_taken(folder, work.manifest.wal)
        maintain(work, configured, options, now=now)
        return work.manifest


def _remove_taken(folder: Path, until: int) -> None:
    for number in wal.numbers(folder):
        if number < until:
            wal.path(folder, number).unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.collector.consolidation",
        description="Brings the collector's journal into the store; run by the collector.",
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True, help="the first segment that is still written to")
    parser.add_argument("--options", default="{}", help="monitoring.collector.options.Options as JSON")
    arguments = parser.parse_args(argv)
    telemetry.switch_off()
    try:
        configured = replace(settings.load(), home=arguments.home.resolve())
        options = Options(**orjson.loads(arguments.options))
        done = consolidate(configured, options, arguments.until, now=time.time())
    except (WindlassError, OSError) as error:
        sys.stderr.write(f"windlass collector: the journal could not be brought into the store: {error}\n")
        return 1
    with contextlib.suppress(BrokenPipeError):  # whoever asked was killed meanwhile
        sys.stdout.write(orjson.dumps({"wal": done.wal, "counts": done.counts}).decode() + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
