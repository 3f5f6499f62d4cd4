"""How to serve: everything that the command line may set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Settings of one server.

    Attributes:
        port: 0 takes a free one; the line on stderr names it.
        log: where predictions are kept (see `payload.sink`); None for nowhere.
        online: `sqlite:PATH` or `redis://…`; None where no model reads features.
        grpc_port: for the same protocol over gRPC; None for none, 0 takes a free one.
        repository: folder with `<model>/<version>/serving.json` to load from while the server runs.
        token: which the requests to the repository must bear; None switches them off.
        verify_key: public key that signatures are checked with.
        require_signature: whether a bundle without one is refused.
        allow_pickle: whether a bundle may declare a pickle.
        replay_clock: whether the header x-windlass-at is "now".
        as_of: "now" of requests that state none, for a store of historical data; None takes the clock.
        deadline_s: of a request that states none.
        store_budget_s: how long a read of the online store may take.
        queue_s: longest that a request may be expected to wait; what would wait longer is shed.
        most_waiting: requests of one model that may wait or run at once.
        most_held_bytes: of requests that have not arrived completely, all connections together.
        drain_linger_s: how long a stopping server still accepts, for callers that have not seen it go.
        drain_timeout_s: how long it then waits for the requests in flight.
        idle_timeout_s: longer than a proxy keeps its idle connections (Envoy: an hour), so that it is the
            proxy who closes them and never a request that finds one closed.
    """

    port: int
    log: str | None = None
    online: str | None = None
    host: str = "127.0.0.1"
    grpc_port: int | None = None
    repository: Path | None = None
    token: str | None = None
    verify_key: Path | None = None
    require_signature: bool = False
    allow_pickle: bool = False
    replay_clock: bool = False
    as_of: float | None = None
    workers: int = 1
    deadline_s: float = 5.0
    store_budget_s: float = 0.020
    queue_s: float = 0.100
    most_waiting: int = 2048
    most_body_bytes: int = 4 * 1024 * 1024
    most_held_bytes: int = 256 * 1024 * 1024
    most_rows: int = 4096
    request_timeout_s: float = 30.0
    idle_timeout_s: float = 3900.0
    drain_linger_s: float = 0.2
    drain_timeout_s: float = 10.0
