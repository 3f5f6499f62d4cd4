"""`python -m windlass.local.retraining`: the retrain trigger as a service, until SIGTERM.

It stands above the pipelines because it starts them; what it does is `monitoring.retrain.service`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from monitoring.retrain import journal
from monitoring.retrain.service.app import Token
from monitoring.retrain.service.core import Service, Watched
from monitoring.retrain.service.server import require_safe, serve
from pipelines.compile import COMPILED, FILE, stated, write
from pipelines.submit_kfp import Address, KfpRuns
from serving.release.cluster.api import KubernetesApi
from windlass import catalog, settings, telemetry
from windlass import retrain_policy as policy
from windlass.contract import RetrainPolicy, Workload
from windlass.errors import UsageError, WindlassError
from windlass.local.retraining import cluster_releases
from windlass.local.retraining.cluster_releases import ClusterReleases, Objects
from windlass.local.retraining.policies import Policies, PolicyFolder
from windlass.local.retraining.surroundings import OnKubeflow, Surroundings
from windlass.settings import Settings

KFP_EVERY_S = 15.0


def address(environ: Mapping[str, str], scratch: Path) -> Address | None:
    """Where Kubeflow Pipelines is, from `WINDLASS_KFP_*`; None where runs stay on this machine.

    Args:
        scratch: where the pipeline is compiled to, where `WINDLASS_PIPELINE_CONFIG` or `_IMAGE` state its pods.

    Raises:
        UsageError: a setting cannot be meant.
    """
    host = environ.get("WINDLASS_KFP_HOST")
    if not host:
        return None
    if not host.startswith(("http://", "https://")):
        raise UsageError(
            f"WINDLASS_KFP_HOST={host!r} is no address; use for example http://ml-pipeline.kubeflow:8888"
        )
    token = environ.get("WINDLASS_KFP_TOKEN_FILE")
    package = COMPILED / FILE
    config, image = environ.get("WINDLASS_PIPELINE_CONFIG"), environ.get("WINDLASS_PIPELINE_IMAGE")
    if config or image:
        package = scratch / FILE
        write(package, stated(Path(config) if config else None, image or None))
    return Address(
        host=host.rstrip("/"),
        namespace=environ.get("WINDLASS_KFP_NAMESPACE") or None,
        token_file=Path(token) if token else None,
        experiment=environ.get("WINDLASS_KFP_EXPERIMENT") or Address.experiment,
        service_account=environ.get("WINDLASS_KFP_SERVICE_ACCOUNT") or None,
        package=package,
    )


def objects(environ: Mapping[str, str]) -> Objects | None:
    """The Release objects of the namespace that is ours; None where none is, and releases are those of this machine.

    Raises:
        UsageError: there is no cluster to have them.
    """
    namespace = environ.get("WINDLASS_RELEASE_NAMESPACE") or environ.get("WINDLASS_NAMESPACE")
    return Objects(KubernetesApi.connect(), namespace) if namespace else None


def watched(
    configured: Settings, workload: Workload, where: Address | None, released: Objects | None = None
) -> Watched:
    """The trigger of one workload with what is around it."""
    runs = None if where is None else OnKubeflow(configured, workload, KfpRuns(where), say)
    releases = None if released is None else ClusterReleases(released, workload.name)
    around = Surroundings(configured, workload, runs, releases)
    trigger = journal.Trigger(workload.name, workload.retrain, journal.path(configured), around.submit)
    return Watched(trigger, around)


def workloads(configured: Settings, names: list[str], policies: list[Path]) -> list[Workload]:
    """The workloads to watch, those of the policies among them.

    Raises:
        UsageError: one is unknown, or has two policies.
    """
    stated: dict[str, RetrainPolicy] = {}
    for path in policies:
        name, found = policy.load(path)
        if name in stated:
            raise UsageError(f"policy {path}: workload {name!r} has a policy already; give one of each")
        stated[name] = found
    known: list[Workload] = []
    for name in dict.fromkeys([*(names or catalog.names(configured.project)), *stated]):
        try:
            workload = catalog.load(name, configured.project)
            if name not in stated:
                workload = policy.in_force(workload, configured.project)
        except Exception as error:  # a workload is anybody's code
            if name in names or name in stated:
                raise
            # one that nobody asked for must not keep the others from being heard
            say(f"{name} is not watched: {error}")
            continue
        known.append(replace(workload, retrain=stated.get(name, workload.retrain)))
    return known


def policies(
    known: list[Workload],
    named: list[Path],
    triggers: Mapping[str, Watched],
    environ: Mapping[str, str],
    *,
    cluster: bool = False,
) -> Policies:
    """What the triggers decide under: policies of `WINDLASS_RETRAIN_POLICIES` over the workloads' own.

    Args:
        cluster: whether releases are custom resources, of whose plans it is to be told.
    """
    folder = environ.get("WINDLASS_RETRAIN_POLICIES")
    around = {
        name: each.platform for name, each in triggers.items() if isinstance(each.platform, Surroundings)
    }

    def put(name: str, found: RetrainPolicy) -> None:
        triggers[name].trigger.policy = found
        around[name].release_plan = found.release

    return Policies(
        {w.name: w.retrain for w in known},
        frozenset(policy.load(path)[0] for path in named),
        PolicyFolder(Path(folder), say) if folder else None,
        put,
        say,
        (lambda: {name: cluster_releases.told(each.planned("2", "1")) for name, each in around.items()})
        if cluster
        else None,
    )


def say(text: str) -> None:
    sys.stderr.write(f"windlass retrain: {text}\n")
    sys.stderr.flush()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m windlass.local.retraining",
        description="Takes alerts and events, decides under each workload's RetrainPolicy, follows the runs.",
    )
    parser.add_argument("workload", nargs="*", help="workloads to watch (default: all)")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--home", type=Path, help="root of the local state; default: WINDLASS_HOME")
    parser.add_argument(
        "--policy",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a RetrainPolicy; may be repeated",
    )
    senders = parser.add_mutually_exclusive_group()
    senders.add_argument(
        "--token-file", type=Path, help="the token that senders have; default: WINDLASS_RETRAIN_TOKEN_FILE"
    )
    senders.add_argument(
        "--insecure-no-auth", action="store_true", help="take signals from everybody; loopback addresses only"
    )
    arguments = parser.parse_args(argv)
    telemetry.switch_off()
    try:
        configured = settings.load()
        if arguments.home is not None:
            configured = replace(configured, home=arguments.home.resolve())
        where = address(os.environ, configured.run_dir / "pipeline")
        token = None if arguments.insecure_no_auth else _token(arguments.token_file)
        require_safe(arguments.host, token)
        known = workloads(configured, arguments.workload, arguments.policy)
        released = objects(os.environ)
        triggers = {w.name: watched(configured, w, where, released) for w in known}
        under = policies(known, arguments.policy, triggers, os.environ, cluster=released is not None)
        under.refresh()
        service = Service(
            triggers,
            say,
            follow_every_s=1.0 if where is None else KFP_EVERY_S,
            policies=under,
        )
        asyncio.run(serve(service, token, arguments.host, arguments.port, namespace=configured.namespace))
    except WindlassError as error:
        sys.stderr.write(f"windlass retrain: error: {error}\n")
        return error.exit_code
    return 0


def _token(path: Path | None) -> Token:
    named = path or (
        Path(found) if (found := os.environ.get("WINDLASS_RETRAIN_TOKEN_FILE")) is not None else None
    )
    if named is None:
        raise UsageError(
            "nobody says who may send signals: give --token-file, set WINDLASS_RETRAIN_TOKEN_FILE, or, on a "
            "loopback address, --insecure-no-auth"
        )
    return Token(named)


if __name__ == "__main__":
    sys.exit(main())
