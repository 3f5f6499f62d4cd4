"""Watching custom resources, by kopf: the one importer of it.

kopf lists and watches, comes back after an outage or a token that ran out, and hands every raw event on. No more than
that: `on.event` handlers leave no trace on the objects, while kopf's handlers of changes keep an annotation with the
last seen spec and one with their progress on each, which would be written again at every change of a status.

A watch whose connection has died silently says nothing for ever: so the server ends each after some minutes, the
client does where the server did not, and a connection that is not made in time is given up.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from serving.release.cluster.api import Kind
from windlass.operator.reconciler import Object, Watched

Heard = Callable[[Kind, str | None, Object], None]

SERVER_TIMEOUT_S = 240
CLIENT_TIMEOUT_S = 270
CONNECT_TIMEOUT_S = 10
REQUEST_TIMEOUT_S = 60

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Patient:
    """Pauses between tries, in seconds, without end: an API server that is down for an hour is asked for an hour.

    kopf takes the end of its pauses for the end of the operator.
    """

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1.0, 2.0)
        while True:
            yield 4.0


def watch(
    watched: Sequence[Watched],
    namespaces: Sequence[str],
    heard: Heard,
    stop: threading.Event,
    *,
    kubeconfig: Path | None = None,
) -> None:
    """Call `heard` with every event until `stop` is set; blocks, and has an event loop of its own.

    Raises:
        Exception: whatever kopf cannot go on with; the process is to be started again.
    """
    import kopf

    quiet()
    registry = kopf.OperatorRegistry()
    settings = _settings(kopf)

    def login(**known: Any) -> Any:
        return _in_cluster(kopf) or kopf.login_with_kubeconfig(**known)

    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(kubeconfig)
    kopf.on.login(registry=registry, backoff=2.0)(login)
    for each in watched:
        kind = each.kind
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry)(_relay(kind, heard))
        if each.label is not None:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = each.label
    kopf.run(
        registry=registry,
        settings=settings,
        # else it asks for our user's name, and a container's user has none
        identity=cast(Any, "windlass-operator"),
        standalone=True,
        namespaces=namespaces,
        stop_flag=stop,
    )


def quiet() -> None:
    """Leave kopf's warnings and errors and none of its chatter; ours is the story of a release."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # "OS signals are ignored: running not in the main thread": they are ours
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    # every refused connection of an outage is an error to it, every few seconds
    logging.getLogger("kopf._cogs.clients").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _settings(kopf: Any) -> Any:
    settings = kopf.OperatorSettings()
    settings.watching.server_timeout = SERVER_TIMEOUT_S
    settings.watching.client_timeout = CLIENT_TIMEOUT_S
    settings.watching.connect_timeout = CONNECT_TIMEOUT_S
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 250
    settings.networking.request_timeout = REQUEST_TIMEOUT_S
    settings.networking.connect_timeout = CONNECT_TIMEOUT_S
    settings.networking.error_backoffs = Patient()
    # which kinds and namespaces there are is known from the start; looking for new ones takes rights in the cluster
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 1.0
    return settings


def _relay(kind: Kind, heard: Heard) -> Callable[..., Any]:
    async def relay(event: Any, **_: Any) -> None:
        heard(kind, event["type"], event["object"])

    return relay


def _in_cluster(kopf: Any) -> Any:
    """The pod's own account, at the address that the kubelet gives: that one needs no DNS."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = _ACCOUNT / "token"
    if not host or not token.exists():
        return None
    place = f"[{host}]" if ":" in host else host
    return kopf.ConnectionInfo(
        server=f"https://{place}:{port}", ca_path=str(_ACCOUNT / "ca.crt"), token=token.read_text().strip()
    )
