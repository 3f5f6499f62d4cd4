"""`windlass render`: print what Kubernetes is told so that a version is served, for `kubectl apply -f -`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "render",
        help="print the Kubernetes objects that serve a version",
        description="Prints the InferenceService of one version and its PodDisruptionBudget, or the runtimes that "
        "InferenceServices start. The operator applies the same for a release; by hand it is for the first version.",
        epilog="example: windlass render flights 12 --storage 's3://models/{model}/{version}' | kubectl apply -f -\n"
        "         windlass render flights 12 --options serving.yaml\n"
        "         windlass render flights 12 --options serving.yaml --backend knative\n"
        "         windlass render --runtimes --image registry.example/serving@sha256:…\n"
        "What may stand in the options is in docs/kserve.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", help="name of the model")
    parser.add_argument("version", nargs="?", help="its version")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--options", type=Path, metavar="FILE", help="how versions are served (YAML)")
    how.add_argument(
        "--storage", metavar="ADDRESS", help="instead: only where bundles are, the rest as by default"
    )
    how.add_argument(
        "--runtimes", action="store_true", help="instead of a version: the ClusterServingRuntimes"
    )
    parser.add_argument(
        "--backend", choices=("gateway", "kserve", "knative"), default="gateway",
        help="of the model's releases: kserve and knative have one InferenceService for all versions",
    )  # fmt: skip
    parser.add_argument(
        "--namespace", metavar="NAME",
        help="where the objects will be; needed where KEDA scales by concurrency, since its query names it",
    )  # fmt: skip
    parser.add_argument("--image", metavar="IMAGE", help="with --runtimes: image of the model server")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write a file for each object instead of printing"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, a List")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import atomic

    documents = _documents(arguments)
    if arguments.out is not None:
        for document in documents:
            path = arguments.out / f"{document['kind'].lower()}-{document['metadata']['name']}.yaml"
            atomic.write_text(path, f"# Written by `windlass render`.\n{_text([document])}")
    if arguments.json:
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
    elif arguments.out is None:
        print(_text(documents), end="")
    return 0


def _documents(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from serving.release.cluster import inference_service, serving_options, serving_runtime
    from windlass.errors import UsageError

    if arguments.runtimes:
        if arguments.model is not None:
            raise UsageError("a model and --runtimes: the runtimes are the same for all; leave one out")
        if arguments.namespace is not None:
            raise UsageError("--namespace and --runtimes: these belong to the cluster; leave one out")
        return serving_runtime.documents(arguments.image or serving_runtime.IMAGE)
    if arguments.image is not None:
        raise UsageError("--image is for --runtimes; a version's image is stated in the options as `image`")
    if arguments.version is None:
        raise UsageError("name a model and a version, or give --runtimes")
    if arguments.options is not None:
        options = serving_options.load(arguments.options)
    elif arguments.storage is not None:
        options = serving_options.parse({"storage": arguments.storage}, "--storage")
    else:
        raise UsageError("nothing says where bundles are; give --options FILE or --storage ADDRESS")
    model, version, namespace = arguments.model, arguments.version, arguments.namespace
    if arguments.backend == "gateway":
        return inference_service.render(model, version, options, namespace=namespace)
    return inference_service.for_all_versions(model, version, options, arguments.backend, namespace=namespace)


def _text(documents: list[dict[str, Any]]) -> str:
    import yaml

    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
