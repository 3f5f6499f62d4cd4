"""One batch of events made part of the store: what is new of it, joined, written and committed.

The step that the consolidation repeats. Everything before the commit may be done again, with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import orjson

from monitoring.collector import index as indexes
from monitoring.collector import keys, labelling, manifest, pairing, parts, wal
from monitoring.collector.batch import Batch, read_batch
from monitoring.collector.follower import lines
from monitoring.collector.labelling import Kept, Target
from monitoring.collector.manifest import Kind, Manifest, Part
from monitoring.collector.names import Names
from monitoring.collector.options import Options
from monitoring.collector.store import Store
from windlass.errors import WindlassError

Group = TypeVar("Group", bound=Hashable)
#: what two times in the store differ by at least
INSTANT_S = 1e-6
#: of a kept label, what the index remembers
KEPT = ("label", "reward", "per", "covariate", "at", "received")


class Committer:
    """Takes closed segments into a store, a commit at a time."""

    def __init__(self, store: Store, names: Names, options: Options) -> None:
        self._store = store
        self._names = names
        self._options = options
        self._indexes = {
            name: indexes.Index(name, store.folder, store.manifest.runs) for name in indexes.COLUMNS
        }

    # --- one commit

    def take(self, segments: Sequence[tuple[int, wal.Content]]) -> Manifest:
        """Bring some segments into the store and remove nothing; without any, only halves that waited too long."""
        known = self._store.manifest
        batch = read_batch([line for _, content in segments for line in content.lines])
        for _, content in segments:
            _count(batch.counts, "wal.torn", int(content.torn > 0))
            _count(batch.counts, "wal.damaged", int(content.damaged))
        models = list(known.models)
        seen: list[indexes.Rows] = []
        rows, held = self._rows(batch, models, seen)
        for row in rows:
            row["known"] = self._known(row["received"])
        inputs = self._inputs(rows)
        arrived, predicted = self._arrived(rows, models)
        labelled = self._label(batch, arrived, models)
        made = [*self._put_predictions(rows, inputs), *self._put_labels(labelled, rows)]
        held_path = self._write_held(held)
        runs, gone = self._index(seen, predicted, labelled, models, made)
        offsets = {
            name: {**known.offsets.get(name, {}), **batch.offsets.get(name, {})}
            for name in {*known.offsets, *batch.offsets}
        }
        done = self._store.commit(
            replace(
                known,
                wal=max([known.wal, *(number + 1 for number, _ in segments)]),
                parts=(*known.parts, *made),
                runs=runs,
                models=tuple(models),
                inputs=inputs,
                held=held_path,
                offsets=offsets,
                counts=manifest.counted(known.counts, batch.counts),
            )
        )
        # nobody else reads these
        for path in gone:
            (self._store.folder / path).unlink(missing_ok=True)
        if known.held is not None:
            self._store.place.remove(known.held)
        return done

    # --- the steps

    def _rows(
        self, batch: Batch, models: list[str], seen: list[indexes.Rows]
    ) -> tuple[list[dict[str, Any]], list[pairing.Entry]]:
        """New predictions, each once, and halves to hold; what was seen is added to `seen`."""
        names = [_half_key(half) for half in batch.halves]
        days = [keys.day(half["at"]) for half in batch.halves]
        owners = [_number_of(models, half["model"]) for half in batch.halves]
        new = self._unseen(names, days, owners, seen)
        halves = [half for half, fresh in zip(batch.halves, new, strict=True) if fresh]
        for half, fresh in zip(batch.halves, new, strict=True):
            if not fresh:
                _count(batch.counts, f"duplicates.{half['type']}")
        held: list[pairing.Entry] = []
        if self._store.manifest.held is not None:
            content = self._store.place.read(self._store.manifest.held)
            if content is None:
                raise WindlassError(f"the store lacks {self._store.manifest.held}; restore it from a backup")
            held = [orjson.loads(line) for line in content.splitlines()]
        paired = pairing.pair(
            halves, held, expired=self._store.now - self._options.hold_s, most=self._options.most_held
        )
        made = [*batch.predictions, *paired.rows]
        names = [_row_key(row) for row in made]
        days = [keys.day(row["at"]) for row in made]
        owners = [_number_of(models, row["model"]) for row in made]
        new = self._unseen(names, days, owners, seen)
        # a half that lost its other one is superfluous where the whole is stored: its index was rebuilt since
        lonely = [i for i, row in enumerate(made) if pairing.HALF in row and new[i]]
        if lonely:
            known = self._indexes["seen"].has(indexes.keys(_row_key(made[i], whole=True) for i in lonely))
            for i, superfluous in zip(lonely, known, strict=True):
                new[i] = not superfluous
        rows = []
        for row, fresh in zip(made, new, strict=True):
            if fresh:
                rows.append(row)
                _count(batch.counts, "stored.prediction")
                if pairing.HALF in row:
                    _count(batch.counts, f"incomplete.{row[pairing.HALF]}")
            else:
                _count(batch.counts, "duplicates.prediction")
        return rows, paired.held

    def _unseen(
        self, names: list[str], days: list[int], owners: list[int], seen: list[indexes.Rows]
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of the keys are new, each the first time only; those go into `seen`."""
        if not names:
            return np.empty(0, dtype=bool)
        hashes = indexes.keys(names)
        new = indexes.first_of_each(hashes) & ~self._indexes["seen"].has(hashes)
        columns = {**hashes, "model": np.array(owners), "day": np.array(days)}
        seen.append({c: values[new] for c, values in columns.items()})
        return new

    def _inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[str, ...]]]:
        """Names of every version's inputs; a version keeps those that it was first stored with."""
        found = {m: dict(v) for m, v in self._store.manifest.inputs.items()}
        for row in rows:
            vector = row["features"]
            if vector and row["version"] not in found.setdefault(row["model"], {}):
                # what is stated holds, whatever width the first vector happens to have
                names = self._names.inputs(row["model"], row["version"])
                found[row["model"]][row["version"]] = names or tuple(map(str, range(len(vector))))
        return found

    def _arrived(
        self, rows: Sequence[Mapping[str, Any]], models: list[str]
    ) -> tuple[dict[str, list[Target]], indexes.Rows]:
        """The predictions of this batch, by request id, and as rows for the index."""
        arrived: dict[str, list[Target]] = {}
        for row in rows:
            target = Target((row["model"], keys.day(row["at"])), row["at"])
            targets = arrived.setdefault(row["request_id"], [])
            if all(other.partition != target.partition for other in targets):
                targets.append(target)
        flat = [(name, target) for name, targets in arrived.items() for target in targets]
        return arrived, {
            **indexes.keys(name for name, _ in flat),
            "model": np.array([_number_of(models, t.partition[0]) for _, t in flat], dtype="<i4"),
            "day": np.array([t.partition[1] for _, t in flat], dtype="<i4"),
            "at": np.array([t.at for _, t in flat]),
        }

    def _label(
        self, batch: Batch, arrived: Mapping[str, list[Target]], models: Sequence[str]
    ) -> labelling.Labelled:
        asked = list(dict.fromkeys([*(label["request_id"] for label in batch.labels), *arrived]))
        named = [*asked, *(labelling.REWARD + request for request in asked)]
        at, found = self._indexes["labelled"].find(indexes.keys(named))
        known = {
            named[position]: Kept(*(float(found[name][i]) for name in KEPT)) for i, position in enumerate(at)
        }
        at, found = self._indexes["predicted"].find(indexes.keys(asked))
        predicted: dict[str, list[Target]] = {}
        for i, position in enumerate(at):
            partition = (models[int(found["model"][i])], int(found["day"][i]))
            predicted.setdefault(asked[position], []).append(Target(partition, float(found["at"][i])))
        labelled = labelling.judge(
            batch.labels,
            arrived,
            known=known,
            predicted=predicted,
            late_s=self._options.late_days * keys.DAY_S,
        )
        for outcome, count in labelled.outcomes.items():
            _count(batch.counts, f"labels.{outcome}", count)
        return labelled

    def _put_predictions(
        self, rows: Sequence[dict[str, Any]], inputs: Mapping[str, Mapping[str, tuple[str, ...]]]
    ) -> list[Part]:
        made = []
        for (model, day), group in _grouped(rows, lambda row: (row["model"], keys.day(row["at"]))).items():
            table = parts.predictions(group, inputs.get(model, {}))
            versions = tuple(dict.fromkeys(table["version"].to_pylist()))
            made.append(
                self._store.put("predictions", model, keys.date(day), table, _between(group), versions)
            )
        return made

    def _put_labels(
        self, labelled: labelling.Labelled, predictions: Sequence[Mapping[str, Any]]
    ) -> list[Part]:
        # a label that was here first is known with its prediction, and never before it
        came: dict[tuple[str, str], float] = {}
        for row in predictions:
            named = row["model"], row["request_id"]
            came[named] = min(came.get(named, math.inf), row["known"])
        made = []
        for (model, day), placed in labelled.placed.items():
            group = [
                {**row, "known": max(self._known(row["received"]), came.get((model, row["request_id"]), 0.0))}
                for row in placed
            ]
            made.append(
                self._store.put("labels", model, keys.date(day), parts.labels(group), _between(group))
            )
        aside: tuple[tuple[Kind, list[dict[str, Any]]], ...] = (
            ("early", labelled.early),
            ("contradictions", labelled.contradicted),
        )
        for kind, rows in aside:
            for day, group in _grouped(rows, lambda row: keys.day(row["received"])).items():
                made.append(self._store.put(kind, "", keys.date(day), parts.labels(group), _between(group)))
        return made

    def _known(self, received: float) -> float:
        """When a row that is stored now counts as there: not within what readers were told is complete."""
        return max(received, self._store.manifest.until + INSTANT_S)

    def _write_held(self, held: Sequence[pairing.Entry]) -> str | None:
        if not held:
            return None
        path = f"held/g{self._store.generation:09d}.jsonl"
        self._store.place.write(path, lines(held))
        return path

    def _index(
        self,
        seen: list[indexes.Rows],
        predicted: indexes.Rows,
        labelled: labelling.Labelled,
        models: Sequence[str],
        made: Sequence[Part],
    ) -> tuple[tuple[manifest.Run, ...], list[str]]:
        newest = manifest.counted_from((*self._store.manifest.parts, *made))
        kept = labelled.kept.values()
        labels: indexes.Rows = {
            **indexes.keys(labelled.kept),
            "day": np.array([keys.day(k.received) for k in kept], dtype="<i4"),
            **{c: np.array([getattr(k, c) for k in kept], dtype="<f8") for c in KEPT},
        }
        newest_day = np.array([newest.get(m, -(2**30)) for m in models] or [0])
        rows = {
            "seen": indexes.joined(seen, "seen"),
            "predicted": predicted,
            "labelled": labels,
        }
        # labels by the day they came: no later than the predictions say that it is
        today = min(keys.day(self._store.now), int(newest_day.max()))
        keep = {
            "seen": lambda c: c["day"] >= newest_day[c["model"]] - self._options.keep_predictions_days,
            "predicted": lambda c: c["day"] >= newest_day[c["model"]] - self._options.keep_predictions_days,
            "labelled": lambda c: c["day"] >= today - self._options.keep_labels_days,
        }
        gone: list[str] = []
        for name, index in self._indexes.items():
            gone += index.add(rows[name], indexes.run_path(name, self._store.generation), keep[name])
        return tuple(run for index in self._indexes.values() for run in index.runs), gone


def _half_key(half: Mapping[str, Any]) -> str:
    return keys.half(half["source"], half["type"], half["id"])


def _row_key(row: Mapping[str, Any], *, whole: bool = False) -> str:
    half = "" if whole else row.get(pairing.HALF, "")
    return keys.row(row["model"], row["version"], row["mirrored"], half, row["request_id"])


def _grouped(
    rows: Iterable[dict[str, Any]], by: Callable[[dict[str, Any]], Group]
) -> dict[Group, list[dict[str, Any]]]:
    groups: dict[Group, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return groups


def _between(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    return min(row["at"] for row in rows), max(row["at"] for row in rows)


def _number_of(models: list[str], model: str) -> int:
    if model not in models:
        models.append(model)
    return models.index(model)


def _count(counts: dict[str, int], name: str, more: int = 1) -> None:
    if more:
        counts[name] = counts.get(name, 0) + more
