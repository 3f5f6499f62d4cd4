"""Which form of a bundle runs here: the first whose parity holds and whose library is installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import numpy as np

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import DTYPES, Array, Engine, UnavailableError
from serving.runtime.engines.ensemble import EnsembleEngine
from windlass.errors import UsageError


@dataclass(frozen=True)
class PassedOver:
    """A form that comes before the one that runs, and why it does not run."""

    form: Form
    reason: str


@dataclass(frozen=True)
class Opened:
    """A model that was loaded and has run once."""

    engine: Engine
    form: Form
    passed_over: tuple[PassedOver, ...]


def open_engine(bundle: Bundle) -> Opened:
    """Load the first form of `bundle` that is faithful and can run here, and run it once.

    Raises:
        UsageError: none can, or the one that should cannot be loaded.
        ModelError: it fails on one or two plain rows.
    """
    passed_over = []
    for form in bundle.forms:
        if form.parity is not None and not form.parity.holds:
            found = f"differs by {form.parity.max_difference:.1e}, bound {form.parity.bound:.1e}"
            passed_over.append(PassedOver(form, f"parity does not hold: {found}"))
            continue
        try:
            return Opened(open_form(bundle, form), form, tuple(passed_over))
        except ImportError as error:
            passed_over.append(PassedOver(form, f"its library is not installed: {error}"))
        except UnavailableError as error:
            passed_over.append(PassedOver(form, str(error)))
    tried = "; ".join(f"{p.form.format} {p.form.file!r}: {p.reason}" for p in passed_over)
    raise UsageError(
        f"{bundle.title} has no form that can run here: {tried}; "
        "install a form's library, or export the model again on a machine like this one"
    )


def open_form(bundle: Bundle, form: Form) -> Engine:
    """Load one form of `bundle` and run it once; its library is imported here and not before.

    Raises:
        ImportError: its library is not installed.
        UnavailableError: its file is for another machine.
        UsageError: it cannot be loaded, or is not what the bundle states.
        ModelError: it fails on plain rows.
    """
    engine: Engine
    if form.format == "ensemble":
        engine = EnsembleEngine([open_engine(m.bundle).engine for m in bundle.members], bundle)
    else:
        engine = importlib.import_module(f"{__package__}.{form.format}").load(bundle, form)
    # the first run allocates and may fail on an operator: better now than at the first request
    for count in (1, 2):
        plain = _plain(bundle, count)
        if plain is not None:
            engine.run(plain)
    return engine


def _plain(bundle: Bundle, count: int) -> list[Array] | None:
    """Rows of NaN where it may be missing, else of zeros; None where no plain row is known (a length, a text)."""
    if bundle.inputs:
        row = [np.nan if i.missing else 0.0 for i in bundle.inputs]
        return [np.array([row] * count, dtype=np.float32)]
    if any(-1 in s.shape[1:] or s.datatype == "BYTES" for s in bundle.tensor_inputs):
        return None
    return [np.zeros((count, *s.shape[1:]), dtype=DTYPES[s.datatype]) for s in bundle.tensor_inputs]
