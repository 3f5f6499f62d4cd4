"""A serving bundle of any logged model: every form that applies is written, measured, and kept if it is faithful."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components import cache, signing
from components.bundle import FORMAT_VERSION, MANIFEST, entry
from components.export import candidates, measuring
from components.export.candidates import Candidate
from components.export.forest import Forest, NotExportableError
from components.export.measuring import Compared, Question
from components.export.subject import Subject
from serving.runtime import bundle as serving_bundle
from serving.runtime.bundle import Bundle, Input
from serving.runtime.engines.opening import open_engine
from serving.runtime.manifest import Form
from serving.runtime.trust.content import hidden_code
from serving.runtime.trust.verify import GIB, Policy, verify
from windlass.atomic import sync_directory
from windlass.errors import UsageError, WindlassError

REPORT = "export.json"
FEW_ROWS = 100


@dataclass(frozen=True)
class FormReport:
    """What became of one candidate.

    Attributes:
        form: as measured; None where it does not apply or does not run, and `reason` says why.
        mean_difference: over the real rows.
        picked: whether a server on this machine runs it.
    """

    format: str
    file: str
    precision: str
    form: Form | None
    mean_difference: float | None = None
    picked: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Report:
    """What an export found.

    Attributes:
        rows: real rows that parity was judged on; `made_rows` more stand on thresholds or lack a value.
        forms: those that hold, the fastest first, then the others.
        warnings: what a reader of the figures must know.
    """

    model: str
    version: str
    rows: int
    made_rows: int
    forms: tuple[FormReport, ...]
    warnings: tuple[str, ...]


def export(
    subject: Subject,
    name: str,
    version: str,
    rows: tuple[Any, ...],
    out: Path,
    *,
    int8: bool,
    keys: signing.Keys | None = None,
) -> Report:
    """Write the bundle of `subject` to the folder `out`, by one rename.

    Args:
        rows: real rows, one array for each input.
        keys: sign the bundle; without them it is unsigned.

    Raises:
        UsageError: `out` is there already, the model's own prediction fails on the rows, or the keys cannot sign.
        WindlassError: no form is faithful.
    """
    if out.exists():
        raise UsageError(f"{out} exists; give --out a folder that does not")
    out.parent.mkdir(parents=True, exist_ok=True)
    missing = _missing(subject, rows)
    question = _question(subject, rows, missing)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as place:
        folder = Path(place, "bundle")
        folder.mkdir()
        reports = _reports(subject, folder, missing, question, int8)
        kept = [r.form for r in reports if r.form is not None and _holds(r)]
        if not kept:
            found = "; ".join(f"{r.format}: {r.reason}" for r in reports)
            raise WindlassError(
                f"model {name} version {version}: no form is faithful ({found}); nothing was written"
            )
        _drop(folder, kept)
        cache.write_json(folder / MANIFEST, _document(subject, name, version, folder, kept, missing))
        picked = open_engine(serving_bundle.load(folder)).form
        report = Report(
            name,
            version,
            question.real,
            len(question.rows[0]) - question.real,
            tuple(replace(r, picked=r.form is not None and r.form.file == picked.file) for r in reports),
            _warnings(question.real, missing),
        )
        cache.write_json(folder / REPORT, asdict(report))
        if keys is not None:
            signing.sign(folder, keys)
            # what a server asks before it loads anything, asked before anyone gets the folder
            verify(folder, Policy(keys.public, require_signature=True, allow_pickle=True))
        folder.rename(out)
        sync_directory(out.parent)
    return report


def _reports(
    subject: Subject, folder: Path, missing: tuple[bool, ...], question: Question, int8: bool
) -> list[FormReport]:
    """Write every candidate into `folder` and measure it; those that hold come first, the fastest first."""
    tried = candidates.of(subject, int8=int8, rows=question.rows)
    done = [(c, _try(subject, c, folder, missing, question)) for c in tried]
    native = [found for c, found in done if c.native]
    if not any(isinstance(f, Compared) and f.parity.holds for f in native) and subject.library != "pyfunc":
        last = candidates.pyfunc(subject)
        done.append((last, _try(subject, last, folder, missing, question)))
    compared = [f for _, f in done if isinstance(f, Compared)]
    times = iter(measuring.single_row_us([c.run for c in compared], question))
    reports = []
    for candidate, found in done:
        said = (candidate.format, candidate.file, candidate.precision)
        if isinstance(found, str):
            reports.append(FormReport(*said, form=None, reason=found))
            continue
        parity = found.parity
        away = None if parity.holds else f"differs by {parity.max_difference:.1e} (bound {parity.bound:.1e})"
        reports.append(FormReport(*said, found.timed(next(times)), found.mean_difference, reason=away))
    return sorted(reports, key=lambda r: (not _holds(r), (r.form and r.form.single_row_us) or 0.0))


def _holds(report: FormReport) -> bool:
    return report.form is not None and report.form.parity is not None and report.form.parity.holds


def _missing(subject: Subject, rows: tuple[Any, ...]) -> tuple[bool, ...]:
    """For each input of a model of rows whether the library takes NaN there and still gives a number."""
    if not subject.names:
        return ()
    if subject.library == "keras":
        # a relu makes NaN a zero in one kernel and not in the next: a network has no answer to a missing value
        return (False,) * len(subject.names)
    flags = []
    for column in range(len(subject.names)):
        row = rows[0][:1].copy()
        row[0, column] = np.nan
        flags.append(_answers(subject.predict, row))
    return tuple(flags)


def _answers(predict: Callable[[Sequence[Any]], Any], row: Any) -> bool:
    try:
        (given,) = predict([row])
    except Exception:  # a model that knows no missing values says so in many ways
        return False
    return bool(np.isfinite(given).all())


def _question(subject: Subject, rows: tuple[Any, ...], missing: tuple[bool, ...]) -> Question:
    made = [r[:0] for r in rows]
    if subject.names:
        forest: Forest | None = None
        try:
            forest = candidates.forest_of(subject)
        except NotExportableError:
            forest = None
        parts = [measuring.rows_with_missing(rows[0], missing)]
        parts += [measuring.rows_at_thresholds(forest, rows[0])] if forest is not None else []
        made = [np.concatenate(parts)]
    try:
        return measuring.ask(subject.predict, rows, tuple(made))
    except Exception as error:  # whatever the library raises on the caller's rows
        raise UsageError(
            f"model {subject.logged.folder}: its own prediction fails on these rows: {error}; "
            "give --rows FILE with rows that it takes"
        ) from error


def _try(
    subject: Subject, candidate: Candidate, folder: Path, missing: tuple[bool, ...], question: Question
) -> Compared | str:
    """Write and ask a candidate; the reason where that cannot be done."""
    path = folder / candidate.file
    try:
        candidate.write(path)
        trusted = candidates.trusted_types(path.read_bytes()) if candidate.format == "skops" else ()
        form = Form(candidate.format, candidate.file, trusted=trusted)
        bundle = _bundle(subject, folder, form, missing)
        return measuring.compare(bundle, form, question, candidate.tolerance)
    except NotExportableError as error:
        return f"does not apply: {error}"
    except ImportError as error:
        return f"its library is not installed: {error}"
    except WindlassError as error:
        return f"does not run: {error}"


def _drop(folder: Path, kept: list[Form]) -> None:
    for path in folder.iterdir():
        if path.name not in {f.file for f in kept}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _bundle(subject: Subject, folder: Path, form: Form, missing: tuple[bool, ...]) -> Bundle:
    """The bundle while it is made: of this one form."""
    return Bundle(
        folder=folder.resolve(),
        model=subject.logged.folder.name,
        version="candidate",
        model_file=form.file,
        sha256={
            n: cache.file_digest(folder / n)
            for n in _files(folder)
            if n == form.file or n.startswith(f"{form.file}/")
        },
        feature_service="",
        feast_project="",
        entities=(),
        entity_types={},
        views=(),
        inputs=tuple(
            Input(n, None, None, float("nan"), m) for n, m in zip(subject.names, missing, strict=True)
        ),
        output=subject.outputs[0].name,
        forms=(form,),
        pickle=False,
        tensor_inputs=subject.inputs,
        tensor_outputs=subject.outputs,
        classes=subject.classes,
    )


def _document(
    subject: Subject, name: str, version: str, folder: Path, kept: list[Form], missing: tuple[bool, ...]
) -> dict[str, Any]:
    files = _files(folder)
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "model": name,
        "version": version,
        "model_file": kept[0].file,
        "model_format": kept[0].format,
        "sha256": {n: cache.file_digest(folder / n) for n in files},
        "pickle": any(hidden_code(n, (folder / n).read_bytes(), GIB) for n in files),
        "forms": [entry(f) for f in kept],
    }
    if not subject.names:
        tensors = {"inputs": subject.inputs, "outputs": subject.outputs}
        return document | {"tensors": {k: [asdict(s) for s in specs] for k, specs in tensors.items()}}
    inputs = [
        {"name": n, "view": None, "default": None, "missing": m}
        for n, m in zip(subject.names, missing, strict=True)
    ]
    classes = {"classes": list(subject.classes)} if subject.classes else {}
    rows = {"inputs": inputs, "output": subject.outputs[0].name, **classes}
    return document | rows | {"feature_service": "", "feast_project": "windlass", "entities": [], "views": []}


def _warnings(rows: int, missing: tuple[bool, ...]) -> tuple[str, ...]:
    found = []
    if rows < FEW_ROWS:
        found.append(f"parity was judged on {rows} rows only; give --rows FILE with real ones")
    if missing and not any(missing):
        found.append("the model takes no missing value: a request without a value is refused")
    return tuple(found)
