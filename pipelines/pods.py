"""What the pods of a compiled pipeline get on a cluster: a statement that is read from a file, with defaults of ours.

Secrets, config maps and claims are named and never made here: whoever owns the namespace makes them. Those that the
defaults name are optional, so that the kept pipeline runs in a namespace that has none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from components import signing
from components.steps import STEPS
from serving.release import fields as forms
from serving.release.reading import Problem, Reader, SpecError
from windlass.errors import UsageError

REPORT = "report"
"""The step that tells how the run ended."""
EVERY = (*STEPS, REPORT)
USER = 65532
"""Number of the user and group that steps run as, who owns what they write in docker/training.Dockerfile."""
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?)?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLES = "map environment variables to keys, like {AWS_ACCESS_KEY_ID: access-key}"


@dataclass(frozen=True)
class Source:
    """An existing Secret or ConfigMap: its keys as environment variables, or all of it as files."""

    name: str = forms.text("Name of the object in the run's namespace.")
    env: Mapping[str, str] = forms.anything("Environment variable -> key.", default={})
    path: str | None = forms.text("Folder to mount it at.", default=None)
    optional: bool = forms.flag("Whether a pod starts without it.")
    steps: tuple[str, ...] = forms.texts(
        "Steps that get it; default: all.", default=(), remedy="list steps of " + ", ".join(EVERY)
    )

    def of(self, step: str) -> bool:
        """Whether a step gets it."""
        return not self.steps or step in self.steps


@dataclass(frozen=True)
class Claim:
    """An existing PersistentVolumeClaim; steps run on different nodes, so it must be ReadWriteMany."""

    claim: str = forms.text("Name of the claim in the run's namespace.")
    path: str = forms.text("Folder to mount it at.")
    sub_path: str | None = forms.text("Folder of the claim.", default=None)


@dataclass(frozen=True)
class Retries:
    """How often a pod that failed is started again, and the pauses before it."""

    count: int = forms.integer(0, 20, "Starts after the first.", default=2)
    backoff: timedelta = forms.duration("Pause before the second start.", default=timedelta(seconds=30))
    factor: int = forms.integer(1, 10, "How much longer each further pause is.", default=2)
    longest: timedelta = forms.duration("Longest pause.", default=timedelta(minutes=10))


@dataclass(frozen=True)
class Toleration:
    """A taint that the pods bear."""

    key: str | None = forms.text("The taint's key; absent for every one.", default=None)
    operator: str = forms.choice(("Exists", "Equal"), "How it is compared.", default="Exists")
    value: str | None = forms.text("Its value, with Equal.", default=None)
    effect: str | None = forms.choice(
        ("NoSchedule", "PreferNoSchedule", "NoExecute"), "Its effect; absent for all.", default=None
    )


@dataclass(frozen=True)
class Step:
    """One step's own needs; what is absent is as stated for all."""

    cpu: str | None = forms.text("CPU request.", default=None)
    memory: str | None = forms.text("Memory request.", default=None)
    cpu_limit: str | None = forms.text(
        "CPU limit; none by default: it slows down and saves nothing.", default=None
    )
    memory_limit: str | None = forms.text("Memory limit.", default=None)
    timeout: timedelta | None = forms.duration("After so long the pod is ended.", default=None)
    retries: Retries | None = forms.nested(Retries, "Retries of this step.", default=None)
    cache: bool | None = forms.flag("Whether KFP may take its outputs from an earlier run.", default=None)  # type: ignore[arg-type]
    env: Mapping[str, str] = forms.anything("Environment variables of this step.", default={})


@dataclass(frozen=True)
class Pods:
    """The pods of a pipeline."""

    image: str | None = forms.text("Image of the steps; a digest where it must not change.", default=None)
    image_pull_policy: str | None = forms.choice(
        ("IfNotPresent", "Always", "Never"), "When the image is pulled.", default=None
    )
    image_pull_secrets: tuple[str, ...] = forms.texts(
        "Existing Secrets of the image's registry.", default=(), remedy="list names of Secrets"
    )
    env: Mapping[str, str] = forms.anything("Environment variables of all steps.", default={})
    secrets: tuple[Source, ...] = forms.many(
        Source,
        "Existing Secrets; stated, they replace the defaults.",
        default=(),
        remedy="list mappings with a name",
    )
    config_maps: tuple[Source, ...] = forms.many(
        Source,
        "Existing ConfigMaps; stated, they replace the defaults.",
        default=(),
        remedy="list mappings with a name",
    )
    claims: tuple[Claim, ...] = forms.many(
        Claim, "Existing claims.", default=(), remedy="list mappings with claim and path"
    )
    node_selector: Mapping[str, str] = forms.anything("Labels of the nodes.", default={})
    tolerations: tuple[Toleration, ...] = forms.many(
        Toleration, "Taints that the pods bear.", default=(), remedy="list mappings like {key: dedicated}"
    )
    labels: Mapping[str, str] = forms.anything("Labels of the pods.", default={})
    annotations: Mapping[str, str] = forms.anything("Annotations of the pods.", default={})
    report: bool = forms.flag(
        "Whether a last task tells how the run ended; Kubeflow Pipelines before 2.14 refuses a pipeline with it.",
        default=True,
    )
    timeout: timedelta = forms.duration("After so long a pod is ended.", default=timedelta(hours=2))
    retries: Retries = forms.nested(Retries, "Retries of every step.", default=Retries())
    steps: Mapping[str, Step] = forms.anything("By step: " + ", ".join(EVERY) + ".", default={})

    def step(self, name: str) -> Step:
        """What holds for a step: its own word, else that for all."""
        own = self.steps.get(name, Step())
        return replace(own, timeout=own.timeout or self.timeout, retries=own.retries or self.retries)


DEFAULT = Pods(
    # no step gets what it does not use: training reads artifacts alone, and who trains cannot start a retraining
    secrets=(
        Source(
            "windlass-s3",
            {n: n for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
            optional=True,
            steps=("validate", "training-set", "evaluate-and-gate", "register"),
        ),
        Source(
            "windlass-mlflow",
            {n: n for n in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")},
            optional=True,
            steps=("validate", "evaluate-and-gate", "register"),
        ),
        Source(
            "windlass-signing-key",
            {},
            str(signing.MOUNTED),
            optional=True,
            steps=("evaluate-and-gate", "register"),
        ),
        Source("windlass-retrain-token", {"WINDLASS_TRIGGER_TOKEN": "token"}, optional=True, steps=(REPORT,)),
    ),
    config_maps=(
        Source(
            "windlass-pipeline",
            {
                n: n
                for n in (
                    "MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL", "AWS_DEFAULT_REGION",
                    "WINDLASS_OBJECT_STORE", "WINDLASS_S3_ENDPOINT", "WINDLASS_TRIGGER_URL",
                )
            },
            optional=True,
        ),
    ),
    labels={"app.kubernetes.io/part-of": "windlass", "app.kubernetes.io/component": "training"},
    steps={
        # what a source holds today is no argument of the step: taken from the cache, new data would never be seen
        "validate": Step(cpu="500m", memory="1Gi", memory_limit="4Gi", cache=False),
        # all that these two read comes in as an argument or an artifact
        "training-set": Step(cpu="1", memory="1Gi", memory_limit="6Gi", cache=True),
        "tune-and-train": Step(cpu="1", memory="1Gi", memory_limit="6Gi", cache=True),
        # both ask the registry, which KFP's cache knows nothing of: who is champion may have changed since
        "evaluate-and-gate": Step(cpu="500m", memory="512Mi", memory_limit="2Gi", cache=False),
        "register": Step(cpu="250m", memory="512Mi", memory_limit="2Gi", cache=False),
        REPORT: Step(
            cpu="50m",
            memory="128Mi",
            memory_limit="512Mi",
            cache=False,
            timeout=timedelta(minutes=10),
            retries=Retries(count=3, backoff=timedelta(seconds=10)),
        ),
    },
)  # fmt: skip


def load(path: Path) -> Pods:
    """The statement of a file over the defaults.

    Raises:
        UsageError: no such file, no YAML, or it cannot be meant; every fault is in the message.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"namespace config {path}: {error.strerror}; name a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"namespace config {path} is no YAML: {' '.join(str(error).split())}") from error
    return parse({} if document is None else document, f"namespace config {path}")


def parse(document: Any, name: str = "namespace config") -> Pods:
    """As `load`, of a document."""
    problems: list[Problem] = []
    reader = Reader("", document, problems)
    found = forms.read(Pods, reader)
    steps: dict[str, Step] = {}
    if found is not None:
        _check(found, reader)
        if isinstance(found.steps, Mapping):
            steps = _steps(found.steps, problems)
        else:
            reader.report("steps", found.steps, "must be a mapping by step")
    if problems or found is None:
        raise SpecError(name, problems)
    merged = {n: _over(DEFAULT.steps.get(n, Step()), steps.get(n, Step())) for n in EVERY}
    return replace(
        found,
        secrets=found.secrets or DEFAULT.secrets,
        config_maps=found.config_maps or DEFAULT.config_maps,
        labels={**DEFAULT.labels, **found.labels},
        steps=merged,
    )


def _steps(stated: Mapping[str, Any], problems: list[Problem]) -> dict[str, Step]:
    found: dict[str, Step] = {}
    for name, value in stated.items():
        reader = Reader(f"steps.{name}", value, problems)
        if name not in EVERY:
            reader.report("", value, "no such step; there are " + ", ".join(EVERY))
            continue
        step = forms.read(Step, reader)
        if step is None:
            continue
        for field, quantity in (
            ("cpu", step.cpu), ("memory", step.memory),
            ("cpuLimit", step.cpu_limit), ("memoryLimit", step.memory_limit),
        ):  # fmt: skip
            if quantity is not None and not QUANTITY.fullmatch(quantity):
                reader.report(field, quantity, "write a quantity like 500m, 2 or 4Gi")
        _texts(reader, "env", step.env, variables=True)
        found[name] = step
    return found


def _check(pods: Pods, reader: Reader) -> None:
    for field, found in (("env", pods.env), ("nodeSelector", pods.node_selector), ("labels", pods.labels),
                         ("annotations", pods.annotations)):  # fmt: skip
        _texts(reader, field, found, variables=field == "env")
    for field, sources in (("secrets", pods.secrets), ("configMaps", pods.config_maps)):
        for i, source in enumerate(sources):
            _texts(reader, f"{field}[{i}].env", source.env, variables=True, remedy=_VARIABLES)
            if not source.env and source.path is None:
                reader.report(
                    f"{field}[{i}]", source.name, "needs env, path or both: it is not used otherwise"
                )
            for strange in set(source.steps) - set(EVERY):
                reader.report(f"{field}[{i}].steps", strange, "no such step; there are " + ", ".join(EVERY))
            if source.path is not None and not source.path.startswith("/"):
                reader.report(f"{field}[{i}].path", source.path, "must be an absolute folder")
    for i, claim in enumerate(pods.claims):
        if not claim.path.startswith("/"):
            reader.report(f"claims[{i}].path", claim.path, "must be an absolute folder")
    for i, toleration in enumerate(pods.tolerations):
        if toleration.operator == "Equal" and toleration.value is None:
            reader.report(f"tolerations[{i}].value", None, "Equal needs a value; use Exists without one")


def _texts(
    reader: Reader, field: str, found: Any, *, variables: bool, remedy: str = "must map names to texts"
) -> None:
    if not isinstance(found, Mapping):
        reader.report(field, found, remedy)
        return
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, str):
            reader.report(f"{field}.{key}", value, "must be a text; put it in quotes")
        elif variables and not VARIABLE.fullmatch(key):
            reader.report(f"{field}.{key}", value, "is no name of an environment variable")


def _over(base: Step, stated: Step) -> Step:
    """A step's statement over the default one, field by field."""
    given = {f.name: getattr(stated, f.name) for f in fields(Step)}
    return replace(base, **{k: v for k, v in given.items() if v is not None and v != {}})
