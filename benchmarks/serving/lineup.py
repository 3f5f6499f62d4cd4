"""Who takes part: the servers, and the protocols in which each is asked."""

from __future__ import annotations

from dataclasses import dataclass

from windlass.errors import UsageError

OURS = "windlass"
REDIS, SQLITE = "Windlass, features from redis", "Windlass, features from sqlite"
FEAST = "KServe transformer with Feast, redis"


@dataclass(frozen=True)
class Server:
    """A server that can be started.

    Attributes:
        name: as `--contenders` takes it.
        environment: whose lock it runs on; None is our own environment.
        module: under `benchmarks.serving.contenders`.
        formats: protocol -> how the contender is called in the results.
        restless: works while nobody asks it, so that it runs only while it is measured.
        options: more of its command line.
        prepare: a module beside `module` that is run before the clock of the start does.
    """

    name: str
    environment: str | None
    module: str
    formats: dict[str, str]
    restless: bool = False
    options: tuple[str, ...] = ()
    prepare: str | None = None


SERVERS = (
    Server(OURS, None, "", {"v2": "Windlass V2", "v1": "Windlass V1", "grpc": "Windlass gRPC"}),
    Server(
        "kserve", "kserve", "kserve.server", {"v2": "KServe V2", "v1": "KServe V1", "grpc": "KServe gRPC"}
    ),
    Server("mlserver", "mlserver", "mlserver.server", {"v2": "MLServer V2", "grpc": "MLServer gRPC"}),
    Server("bentoml", "bentoml", "bentoml.server", {"bentoml": "BentoML"}),
    Server("litserve", "litserve", "litserve.server", {"litserve": "LitServe"}),
    Server("mlflow", "mlflow", "mlflow.server", {"mlflow": "mlflow models serve"}, prepare="mlflow.prepare"),
    Server("ray", "ray", "ray.server", {"ray": "Ray Serve"}, restless=True),
    Server("asgi", "floor", "floor.asgi", {"v2": "minimal ASGI app"}),
    Server("protocol", "floor", "floor.protocol", {"v2": "asyncio protocol"}),
    Server("turns", "floor", "floor.turns", {"v2": "asyncio protocol, batch by turn"}),
    Server("constant", "floor", "floor.constant", {"v2": "constant answer"}),
    Server("grpc-aio", "floor", "floor.grpc_aio", {"grpc": "bare grpc.aio"}),
)


def chosen(names: list[str] | None) -> list[Server]:
    """The servers of these names, in the line-up's order; all of them for None.

    Raises:
        UsageError: there is none of that name.
    """
    known = [server.name for server in SERVERS]
    if unknown := set(names or ()) - set(known):
        raise UsageError(f"no contender {sorted(unknown)[0]!r}; there are: {', '.join(known)}")
    return [server for server in SERVERS if names is None or server.name in names]
