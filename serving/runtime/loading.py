"""From a bundle's folder to a model that answers: verified, loaded, measured, with everything around it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.runtime import bundle as bundles
from serving.runtime.bundle import Bundle
from serving.runtime.engines.engine import Engine
from serving.runtime.engines.opening import open_engine
from serving.runtime.features.ladder import Ladder
from serving.runtime.features.reader import FeatureReader, open_reader
from serving.runtime.flow.breaker import Breaker
from serving.runtime.flow.lane import Lane, Limits
from serving.runtime.metrics import Metrics
from serving.runtime.options import Options
from serving.runtime.payload.sink import open_sink
from serving.runtime.repository import Loaded
from serving.runtime.served import Served
from serving.runtime.trust.verify import Policy, verify
from windlass.errors import UsageError


@dataclass(frozen=True)
class Engines:
    """What runs a bundle, and the format of the form that was picked."""

    model: Engine
    form: str
    fallback: Engine | None


Opened = Mapping[tuple[str, str], Engines]
"""Engines by model and version."""
NO_STORE = "sqlite:/nonexistent"


def verified(folder: Path, options: Options) -> Bundle:
    """Check everything that a bundle's folder holds, before any of it is loaded.

    Raises:
        UsageError: it is not what was registered, or not what the policy allows.
    """
    policy = Policy(options.verify_key, options.require_signature, options.allow_pickle)
    return bundles.load(folder, verify(folder, policy).read)


def opened(bundle: Bundle) -> Engines:
    """Open a bundle's model and, where it names one, its fallback.

    Raises:
        UsageError: it cannot be loaded here.
    """
    model = open_engine(bundle)
    fallback = open_engine(bundle.fallback).engine if bundle.fallback is not None else None
    return Engines(model.engine, model.form.format, fallback)


def loaded(
    bundle: Bundle,
    options: Options,
    loop: asyncio.AbstractEventLoop,
    metrics: Metrics,
    reader: FeatureReader | None = None,
    engines: Engines | None = None,
) -> Loaded:
    """Make a bundle answer.

    Args:
        reader: instead of the one for `options.online`.
        engines: the bundle's, where they are open already.

    Raises:
        UsageError: it cannot be served as it is, or asks for a store that is not named.
        WindlassError: its log cannot be written.
    """
    if bundle.views and reader is None and options.online is None:
        raise UsageError(
            f"model {bundle.model} version {bundle.version} reads features; give --online sqlite:PATH or redis://…"
        )
    engines = engines or opened(bundle)
    if reader is None:
        reader = open_reader(options.online or NO_STORE, bundle, budget_s=options.store_budget_s)
    sink = None
    if options.log is not None:
        sink = open_sink(options.log, model=bundle.model, version=bundle.version, output=bundle.output)
    ladder = Ladder(bundle, reader, budget_s=options.store_budget_s)
    served = Served(bundle, engines.model, engines.form, ladder, sink, Breaker(), fallback=engines.fallback)
    limits = Limits(waiting=options.most_waiting, queue_s=options.queue_s)
    requests = metrics.of(bundle.model, bundle.version)
    return Loaded(served, Lane(served, limits, loop, served.name), requests)
