"""How the versions of models are served on a cluster: one YAML document for all models, with exceptions by model.

    storage: s3://models/{model}/{version}
    serviceAccount: windlass-models
    scaling: {minReplicas: 2, maxReplicas: 6}
    models:
      flights: {online: {secret: windlass-online-store}, scaling: {maxReplicas: 12}}

What it becomes is in `inference_service.py`, and how its replicas follow the load in `autoscaling.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from serving.release.cluster import serving_rules
from serving.release.fields import anything, choice, flag, integer, many, nested, read, text, texts
from serving.release.reading import Problem, Reader, SpecError
from windlass.errors import UsageError

VERIFY_KEY = "windlass-verify-key"
VERIFY_KEY_FILE = "verify.pem"

_MODELS = "models"


@dataclass(frozen=True)
class Scaling:
    """How many replicas a version has.

    Attributes:
        scaler: None takes `hpa`, and in Serverless mode Knative's own, which is the only one there.
        metric: None takes `cpu`, in Serverless mode `concurrency`.
        target: per replica; None takes the metric's default (see `autoscaling.target`).
    """

    min_replicas: int = integer(0, 1000, "replicas at least; 0 in Serverless mode alone", default=2)
    max_replicas: int = integer(1, 1000, "replicas at most", default=6)
    scaler: Literal["hpa", "keda", "none"] | None = choice(
        ("hpa", "keda", "none"), "who changes the number", default=None
    )
    metric: Literal["cpu", "memory", "concurrency"] | None = choice(
        ("cpu", "memory", "concurrency"), "what the number follows", default=None
    )
    target: int | None = integer(
        1, 100_000, "percent of what is requested, or requests in flight, per replica", default=None
    )
    prometheus: str | None = text("URL that KEDA asks for the concurrency", default=None)
    authentication: str | None = text("TriggerAuthentication that it asks with", default=None)
    labels: Mapping[str, str] | None = anything(
        "labels of the series beside model, version and namespace", default=None
    )


@dataclass(frozen=True)
class Resources:
    """What one replica may use; None takes what `workers` need. No CPU limit by default: throttling is latency."""

    cpu: str | None = text("CPU requested, 500m", default=None)
    memory: str | None = text("memory requested, 512Mi", default=None)
    cpu_limit: str | None = text("CPU at most", default=None)
    memory_limit: str | None = text("memory at most; default: what is requested", default=None)


@dataclass(frozen=True)
class SecretKey:
    """One value of an existing Secret."""

    secret: str = text("name of the Secret", remedy="name a Secret that exists")
    key: str = text("key in it", default="url")


@dataclass(frozen=True)
class VerifyKey:
    """Where the public key lies that bundles must be signed with: a ConfigMap, or a Secret."""

    config_map: str | None = text("name of the ConfigMap", default=None)
    secret: str | None = text("name of the Secret", default=None)
    key: str = text("key in it", default=VERIFY_KEY_FILE)


@dataclass(frozen=True)
class Payload:
    """Where predictions are sent.

    Attributes:
        sender: `runtime` (the model server itself) or `kserve` (KServe's agent beside it); see docs/kserve.md.
        batch: events a POST; the runtime's alone.
    """

    url: str = text("URL of the collector", remedy="give http://HOST:PORT/")
    sender: Literal["runtime", "kserve"] = choice(("runtime", "kserve"), "who sends them", default="runtime")
    mode: Literal["all", "response"] = choice(
        ("all", "response"), "requests and responses, or responses alone", default="all"
    )
    batch: int = integer(2, 100_000, "events a POST", default=200)


@dataclass(frozen=True)
class Variable:
    """An environment variable of the server, from an existing Secret or ConfigMap or as it stands."""

    name: str = text("its name", remedy="name the variable")
    value: str | None = text("its value", default=None)
    secret: SecretKey | None = nested(SecretKey, "Secret that it comes from", default=None)


@dataclass(frozen=True)
class ServingOptions:
    """How versions are served.

    Attributes:
        storage: template of the bundle's address.
        runtime: name of the (Cluster)ServingRuntime; None takes ours for `mode`.
        image: of the server, by digest in production; None takes the runtime's.
        tmp: size of /tmp, which the formats keras, pyfunc and tl2cgen copy themselves to.
        start_seconds: how long a replica may take from its start to its first readiness.
        stop_seconds: how long one that is taken away still answers, for those who have not seen it go.
        models: by model, what is different there; complete options each.
    """

    storage: str = text(
        "address of a bundle, with {model} and {version}",
        remedy="give a template such as s3://models/{model}/{version}",
    )
    mode: Literal["Standard", "Serverless"] = choice(
        ("Standard", "Serverless"), "KServe's deployment mode", default="Standard"
    )
    runtime: str | None = text("the (Cluster)ServingRuntime", default=None)
    image: str | None = text("image of the model server, NAME@sha256:…", default=None)
    image_pull_secrets: tuple[str, ...] = texts(
        "Secrets to pull it with", default=(), remedy="name Secrets, or leave it out"
    )
    service_account: str | None = text("ServiceAccount whose Secrets open the storage", default=None)
    storage_container: str | None = text("ClusterStorageContainer that fetches the bundle", default=None)
    workers: int = integer(1, 64, "processes a replica", default=1)
    scaling: Scaling = nested(Scaling, "number of replicas", default=Scaling())
    resources: Resources = nested(Resources, "what one replica may use", default=Resources())
    online: SecretKey | None = nested(SecretKey, "Secret with the URL of the online store", default=None)
    payload: Payload | None = nested(Payload, "where predictions are sent", default=None)
    verify_key: VerifyKey = nested(VerifyKey, "public key of the bundles", default=VerifyKey())
    priority_class: str | None = text("PriorityClass of the pods", default=None)
    spread: tuple[str, ...] = texts(
        "node labels over whose values replicas are spread",
        default=("kubernetes.io/hostname", "topology.kubernetes.io/zone"),
        remedy="name node labels, or leave it out",
    )
    tmp: str = text("size of /tmp", default="512Mi")
    start_seconds: int = integer(10, 3600, "longest start of a replica", default=120)
    stop_seconds: int = integer(1, 600, "time between the announcement of a stop and the stop", default=10)
    arguments: tuple[str, ...] = texts(
        "further arguments of the model server", default=(), remedy="list texts, or leave it out"
    )
    environment: tuple[Variable, ...] = many(
        Variable, "further environment variables", default=(), remedy="list variables, or leave it out"
    )
    node_selector: Mapping[str, str] | None = anything("labels that nodes must have", default=None)
    tolerations: Any = anything("taints that are borne", default=None)
    disruption_budget: bool = flag("whether a PodDisruptionBudget is made", default=True)
    models: Mapping[str, ServingOptions] = field(default_factory=dict)

    def of(self, model: str) -> ServingOptions:
        """The options of one model."""
        return self.models.get(model, self)

    def storage_uri(self, model: str, version: str) -> str:
        """The bundle's address; that of objects ends with a slash.

        KServe fetches every key that begins with it: without the slash version 1 would come with all of version 12.
        """
        uri = self.storage.replace("{model}", model).replace("{version}", version)
        return f"{uri.rstrip('/')}/" if uri.startswith("s3://") else uri


def load(path: Path) -> ServingOptions:
    """Read the options from a file.

    Raises:
        UsageError: it cannot be read.
        SpecError: it cannot be meant.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise UsageError(f"serving options {path}: {reason}; name a YAML file that can be read") from error
    return loads(content, str(path))


def loads(content: str, name: str = "the text") -> ServingOptions:
    """Read the options from YAML.

    Raises:
        SpecError: it is no YAML, or cannot be meant; with every problem that was found.
    """
    import yaml

    from serving.release import yaml_text

    try:
        found = [node for node in yaml_text.nodes(content) if node is not None]
        document = yaml_text.value(found[0]) if found else {}
    except yaml.YAMLError as error:
        problem = Problem(
            "document", repr(content[:40]), f"is not YAML: {' '.join(str(error).split())[:400]}"
        )
        raise SpecError(f"serving options {name}", [problem]) from error
    return parse(document, name)


def parse(document: Any, name: str = "the document") -> ServingOptions:
    """Read the options from the mapping that YAML gives.

    Raises:
        SpecError: with every problem that was found.
    """
    problems: list[Problem] = []
    root = Reader("", document, problems)
    options = _options(root, problems)
    exceptions = root.raw(_MODELS) or {}
    models: dict[str, ServingOptions] = {}
    if not isinstance(exceptions, Mapping):
        root.report(_MODELS, exceptions, "give a mapping of models to what is different there")
    elif isinstance(document, Mapping):
        common = {key: value for key, value in document.items() if key != _MODELS}
        for model, different in exceptions.items():
            path = f"{_MODELS}.{model}"
            if not isinstance(different, Mapping):
                root.report(path, different, "give a mapping of what is different for this model")
                continue
            own = _options(Reader(path, _merged(common, different), problems), problems)
            if own is not None:
                models[str(model)] = own
    if problems or options is None:
        # what is wrong with the common part is wrong with every model's, and said once
        seen = {(problem.path, problem.value) for problem in problems if not problem.path.startswith(_MODELS)}
        kept = [
            problem
            for problem in problems
            if not problem.path.startswith(f"{_MODELS}.")
            or (problem.path.split(".", 2)[-1], problem.value) not in seen
        ]
        raise SpecError(f"serving options in {name}", kept)
    return replace(options, models=models)


def _options(reader: Reader, problems: list[Problem]) -> ServingOptions | None:
    before = len(problems)
    options = read(ServingOptions, reader, known=(_MODELS,) if not reader.path else ())
    if options is not None and len(problems) == before:
        serving_rules.check(options, reader)
    return options


def _merged(common: Mapping[str, Any], different: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(common)
    for key, value in different.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = _merged(before, value)
        merged[key] = value
    return merged
