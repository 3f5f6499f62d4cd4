"""`windlass pipeline`: the compiled training pipeline, its runs and its recurring runs on Kubeflow Pipelines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.kfp_api import Address


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "pipeline", help="compile the training pipeline, run and schedule it on Kubeflow Pipelines"
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _register_compile(actions)
    _register_submit(actions)
    _register_schedule(actions)


def _register_compile(actions: Any) -> None:
    parser = _action(
        actions,
        "compile",
        "write the pipeline's IR YAML",
        "Writes what Kubeflow Pipelines runs; the same source gives the same bytes.",
        "example: windlass pipeline compile --check",
    )
    parser.add_argument("--check", action="store_true", help="compare with the kept file and write nothing")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: the kept file under pipelines/compiled/"
    )
    _add_compiling(parser)
    parser.set_defaults(handler=handle_compile)


def _register_submit(actions: Any) -> None:
    parser = _action(
        actions,
        "submit",
        "run the pipeline on Kubeflow Pipelines",
        "Creates a run, or finds the one of its name: asked again, nothing is run twice.",
        "example: windlass pipeline submit flights --to 2013-06-30 --host http://127.0.0.1:8888 --wait",
    )
    parser.add_argument("workload")
    _add_arguments(parser)
    parser.add_argument("--name", help="of the run (default: <workload>-<today's date, UTC>)")
    parser.add_argument(
        "--wait", action="store_true", help="wait until it has ended; exit code 1 where it failed"
    )
    parser.add_argument(
        "--within", default="6h", metavar="TIME", help="how long --wait waits, like 90m (default 6h)"
    )
    _add_address(parser)
    _add_compiling(parser)
    parser.set_defaults(handler=handle_submit)


def _register_schedule(actions: Any) -> None:
    parser = _action(
        actions,
        "schedule",
        "have Kubeflow Pipelines run the pipeline again and again",
        "States a recurring run by name; stated again it is found, stated otherwise it is replaced. Without --from and "
        "--to each run trains from where the champion began up to the newest row.",
        'example: windlass pipeline schedule flights --cron "0 3 * * 1" --host http://127.0.0.1:8888',
    )
    parser.add_argument("workload", nargs="?")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cron", help="minute hour day month weekday, or six fields with seconds first")
    what.add_argument("--list", action="store_true", help="show those that there are")
    what.add_argument("--disable", action="store_true", help="switch it off and keep it")
    what.add_argument("--enable", action="store_true", help="switch it on again")
    what.add_argument("--delete", action="store_true", help="remove it; its runs stay")
    _add_arguments(parser)
    parser.add_argument("--name", help="of the recurring run (default: windlass-<workload>)")
    parser.add_argument(
        "--concurrency", type=int, default=1, metavar="N", help="most of its runs at a time (default 1)"
    )
    _add_address(parser)
    _add_compiling(parser)
    parser.set_defaults(handler=handle_schedule)


def _action(actions: Any, name: str, help_: str, description: str, epilog: str) -> Any:
    parser = actions.add_parser(
        name,
        help=help_,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_compiling(parser: Any) -> None:
    parser.add_argument(
        "--image",
        metavar="NAME:VERSION",
        help="image of the steps (default: windlass/training of this version)",
    )
    parser.add_argument(
        "--namespace-config",
        type=Path,
        metavar="FILE",
        help="what the pods get: secrets, claims, resources, nodes … (docs/pipelines.md)",
    )


def _add_arguments(parser: Any) -> None:
    parser.add_argument("--from", dest="start", metavar="DATE", help="first day (default: the champion's)")
    parser.add_argument("--to", dest="end", metavar="DATE", help="last day (default: the newest row's)")
    parser.add_argument(
        "--data-version",
        metavar="ID",
        help="of the training data (default: the newest; docs/data-versions.md)",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="of the search (default 6)")


def _add_address(parser: Any) -> None:
    parser.add_argument("--host", metavar="URL", help="of the API (default: WINDLASS_KFP_HOST)")
    parser.add_argument("--namespace", help="of a multi-user deployment (default: WINDLASS_KFP_NAMESPACE)")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="bearer token (default: WINDLASS_KFP_TOKEN_FILE)"
    )
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="certificates that the host's is judged by"
    )
    parser.add_argument("--experiment", help="(default: windlass-<workload>)")
    parser.add_argument("--service-account", help="of the pods (default: the deployment's)")


def handle_compile(arguments: argparse.Namespace) -> int:
    import json

    from pipelines import compile as compiling
    from windlass.errors import UsageError

    path = arguments.out or compiling.COMPILED / compiling.FILE
    if arguments.check and (arguments.image or arguments.namespace_config):
        raise UsageError(
            "--check compares with the kept file, which names the default image and no namespace's things; leave out "
            "--image and --namespace-config"
        )
    if arguments.check:
        compiling.check(path)
    else:
        compiling.write(path, compiling.stated(arguments.namespace_config, arguments.image))
    state = "up to date" if arguments.check else "written"
    print(json.dumps({"path": str(path), "state": state}) if arguments.json else f"{path}: {state}")
    return 0


def handle_submit(arguments: argparse.Namespace) -> int:
    import contextlib
    import json
    import sys
    from datetime import UTC, datetime

    from pipelines.submit_kfp import KfpRuns
    from serving.release import durations
    from windlass.errors import UsageError, WindlassError

    try:
        within = durations.parse(arguments.within)
    except ValueError as error:
        raise UsageError(f"--within: {error}") from error
    name = arguments.name or f"{arguments.workload}-{datetime.now(UTC):%Y-%m-%d}"
    stated = {**_asked(arguments), "run_id": name}
    with contextlib.ExitStack() as stack:
        address = _address(arguments, stack)
        runs = KfpRuns(address)
        made = runs.ensure(name, stated)
        told: dict[str, Any] = {"run": name, "id": made.id, "state": made.state, "found": made.found}
        how = "was there already" if made.found else "is created"
        _say(f"run {name} ({made.id}) {how} in experiment {address.experiment}")
        if not arguments.wait:
            print(json.dumps(told) if arguments.json else made.id)
            return 0
        ended = runs.wait(name, _say, within_s=within.total_seconds())
    told |= {
        "state": "SUCCEEDED" if ended.error is None else "FAILED",
        "seconds": ended.seconds,
        "error": ended.error,
    }
    if ended.error is not None:
        again = "; give --name for another try" if made.found else ""
        raise WindlassError(f"run {name} failed: {ended.error}{again}")
    print(json.dumps(told) if arguments.json else f"{name}: SUCCEEDED after {ended.seconds:.0f} s")
    sys.stdout.flush()
    return 0


def handle_schedule(arguments: argparse.Namespace) -> int:
    import contextlib
    import json

    from pipelines.recurring import Recurring, RecurringRuns, cron
    from windlass.errors import UsageError

    if arguments.workload is None and not (arguments.list and arguments.experiment):
        raise UsageError("name the workload; --list also takes --experiment instead")
    if arguments.concurrency < 1:
        raise UsageError(f"--concurrency {arguments.concurrency} leaves nothing to run; use 1 or more")
    name = arguments.name or f"windlass-{arguments.workload}"
    with contextlib.ExitStack() as stack:
        runs = RecurringRuns(_address(arguments, stack))
        if arguments.list:
            found = [{"name": k.name, "id": k.id, "cron": k.cron, "enabled": k.enabled} for k in runs.all()]
            lines = [f"{f['name']}  {f['cron']}  {'on' if f['enabled'] else 'off'}  {f['id']}" for f in found]
            print(json.dumps({"recurring": found}) if arguments.json else "\n".join(lines) or "none")
            return 0
        told: dict[str, Any] = {"name": name}
        if arguments.cron:
            wanted = Recurring(name, cron(arguments.cron), _asked(arguments), arguments.concurrency)
            known, done = runs.ensure(wanted)
            told |= {"id": known.id, "cron": known.cron, "enabled": known.enabled, "done": done}
        elif arguments.delete:
            told["done"] = "deleted" if runs.delete(name) else "unchanged"
        else:
            turned = runs.switch(name, on=arguments.enable)
            told["done"] = ("enabled" if arguments.enable else "disabled") if turned else "unchanged"
    print(json.dumps(told) if arguments.json else f"{name}: {told['done']}")
    return 0


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """The pipeline's arguments, those that were left out left to the run."""
    from components import window
    from pipelines.span import VERSION
    from windlass import catalog, settings
    from windlass.errors import UsageError

    catalog.load(arguments.workload, settings.load().project)
    if arguments.start and arguments.end:
        window.parse(arguments.start, arguments.end)
    stated: dict[str, Any] = {"workload": arguments.workload}
    if arguments.start:
        stated["start"] = arguments.start
    if arguments.end:
        stated["end"] = arguments.end
    if arguments.data_version:
        stated["data"] = VERSION + arguments.data_version
    if arguments.trials is not None:
        if arguments.trials < 1:
            raise UsageError(f"--trials {arguments.trials} leaves nothing to train; use 1 or more")
        stated["trials"] = arguments.trials
    return stated


def _address(arguments: argparse.Namespace, stack: Any) -> Address:
    """Where to, with the compiled pipeline: the kept one, or one compiled for what is stated."""
    import os
    import tempfile

    from pipelines import compile as compiling
    from pipelines.kfp_api import Address
    from windlass.errors import UsageError

    env = os.environ
    host = arguments.host or env.get("WINDLASS_KFP_HOST")
    if not host:
        raise UsageError("nobody says where Kubeflow Pipelines is; give --host, or set WINDLASS_KFP_HOST")
    token = arguments.token_file or (Path(t) if (t := env.get("WINDLASS_KFP_TOKEN_FILE")) else None)
    package = compiling.COMPILED / compiling.FILE
    if arguments.image or arguments.namespace_config:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        package = Path(folder) / compiling.FILE
        compiling.write(package, compiling.stated(arguments.namespace_config, arguments.image))
    return Address(
        host=host.rstrip("/"),
        namespace=arguments.namespace or env.get("WINDLASS_KFP_NAMESPACE") or None,
        token_file=token,
        experiment=arguments.experiment or f"windlass-{arguments.workload}",
        package=package,
        service_account=arguments.service_account or env.get("WINDLASS_KFP_SERVICE_ACCOUNT") or None,
        authority=arguments.ca_file,
    )


def _say(text: str) -> None:
    import sys

    print(text, file=sys.stderr)
