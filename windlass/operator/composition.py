"""The operator put together out of its settings."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from serving.release.cluster import serving_options
from serving.release.cluster.servers import Servers
from serving.release.cluster.store import ClusterStore
from serving.release.collector.client import Collector
from serving.release.people.exporter import Exporter, Families
from serving.release.prometheus.client import Prometheus
from windlass.clock import SystemClock
from windlass.errors import UsageError
from windlass.operator import champions, handlers
from windlass.operator.backends import Backends
from windlass.operator.champions import Alias, Champions
from windlass.operator.fenced_api import FencedApi
from windlass.operator.leadership import Leadership
from windlass.operator.metrics import Metrics
from windlass.operator.page import Page
from windlass.operator.place import Journals, Place
from windlass.operator.process import Process
from windlass.operator.reconciler import Reconciler, Watched
from windlass.operator.releases import Objects, Releases
from windlass.operator.settings import Settings
from windlass.operator.sight import Sight
from windlass.operator.telling import Teller

#: A look may not wait longer for Prometheus, or the collector: other models' releases have their turns too.
PROMETHEUS_S = COLLECTOR_S = 5.0
#: Longest wait for the API server's answer.
API_S = 10.0
#: Journals of so many finished releases of a model are kept.
KEEP = 50


@dataclass(frozen=True)
class Context:
    """What every reconciler is made of.

    Attributes:
        api: sends nothing while this replica does not lead, and nothing before `run`.
    """

    settings: Settings
    api: FencedApi
    metrics: Metrics


def releases(context: Context) -> Reconciler:
    """The reconciler of Releases.

    Raises:
        UsageError: nobody says how versions are served, or not so that it can be meant.
    """
    settings, api = context.settings, context.api
    objects, clock = Objects(), SystemClock()
    families = Families(context.metrics.registry, namespaces=True)
    if settings.serving_options is None:
        raise UsageError(
            "WINDLASS_SERVING_OPTIONS is not set: name a YAML file that says how versions are served, of which the "
            "least is `storage: s3://models/{model}/{version}`"
        )
    options = serving_options.load(settings.serving_options)
    alias = (
        None if settings.mlflow_url is None else Alias(settings.mlflow_url, headers=champions.authorization())
    )
    prometheus = (
        None
        if settings.prometheus_url is None
        else Prometheus(settings.prometheus_url, timeout_s=PROMETHEUS_S)
    )
    context.metrics.show_phases(objects.phases)
    places = {
        namespace: Place(
            namespace=namespace,
            settings=settings,
            api=api,
            clock=clock,
            journals=Journals(functools.partial(ClusterStore, api, namespace, settings.identity, keep=KEEP)),
            servers=Servers(api, namespace, options),
            backends=Backends(api, namespace, settings.gateway, options),
            champions=Champions(api, namespace, alias),
            teller=Teller(api, settings.identity, clock, objects.learn, objects.drop),
            exporter=Exporter(families, namespace),
            metrics=context.metrics,
            prometheus=prometheus,
            collector=_collector(settings, namespace),
        )
        for namespace in settings.namespaces
    }
    return Releases(objects, places)


def _collector(settings: Settings, namespace: str) -> Collector | None:
    url = settings.collector_of(namespace)
    return None if url is None else Collector(url, timeout_s=COLLECTOR_S)


@dataclass(frozen=True)
class Operator:
    """A process and its page."""

    process: Process
    page: Page


def build(
    settings: Settings,
    leadership: Leadership,
    reconcilers: Sequence[Reconciler],
    metrics: Metrics,
    sight: Sight,
) -> Operator:
    """Put the process together; it listens at its port from here on."""
    process = Process(reconcilers, leadership, metrics, functools.partial(_watch, settings, sight))
    page = Page(
        metrics.registry,
        settings.port,
        healthy=process.healthy,
        ready=lambda: process.ready() or sight.fault(),
    )
    return Operator(process, page)


def _watch(
    settings: Settings, sight: Sight, watched: Sequence[Watched], heard: handlers.Heard, stop: threading.Event
) -> None:
    """Watch, once all that is required can be seen."""
    sight.wait(watched, stop)
    if stop.is_set():
        return
    threading.Thread(target=sight.keep, args=(watched, stop), name="sight", daemon=True).start()
    handlers.watch(watched, settings.namespaces, heard, stop, kubeconfig=settings.kubeconfig)


def connect(settings: Settings, *, connections: int | None = None) -> FencedApi:
    """The API server, not fenced yet.

    Args:
        connections: so many threads ask at a time; None for one or two.

    Raises:
        UsageError: there is none.
    """
    found = FencedApi.connect(settings.kubeconfig, timeout_s=API_S, connections=connections)
    assert isinstance(found, FencedApi)  # noqa: S101 - it is made of the class that is asked
    return found
