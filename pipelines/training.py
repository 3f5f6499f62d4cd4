"""The training pipeline. Retraining is this DAG with other arguments.

The components are shells: KFP serializes a function's source, so the body imports our wheel inside. Steps pass
folders as artifacts and never share a disk, and no step branches on a verdict: the last one obeys it.

It has two forms. The local runner gets the bare DAG. A cluster gets the same DAG with what its pods need
(`pipelines.pods`), inside an exit handler, which the local runner would not honour: whatever becomes of the steps, a
last task tells the retrain trigger.
"""

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from windlass import __version__

if TYPE_CHECKING:
    from pipelines.pods import Pods

IMAGE = f"windlass/training:{__version__}"
NAME = "windlass-training"
DEFAULT_TRIALS = 6


def validate(
    workload: str, start: str, end: str, data: str, rows: Output[Dataset]
) -> NamedTuple("Asked", [("start", str), ("end", str), ("data", str)]):  # type: ignore[valid-type] # fmt: skip
    from components import steps
    from pipelines import span

    asked = span.asked(workload, start, end, data)
    steps.validate(workload, asked.start, asked.end, span.file_of(workload, asked.data), rows.path)
    return (asked.start, asked.end, asked.data)


def training_set(
    workload: str, start: str, end: str, data: str, rows: Input[Dataset], training: Output[Dataset]
) -> None:
    from components import steps
    from pipelines import span

    steps.training_set(workload, start, end, span.file_of(workload, data), rows.path, training.path)


def tune_and_train(workload: str, trials: int, training: Input[Dataset], model: Output[Model]) -> None:
    from components import steps

    steps.tune_and_train(workload, trials, training.path, model.path)


def evaluate_and_gate(
    workload: str,
    training: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    from components import steps

    steps.evaluate_and_gate(workload, training.path, model.path, evaluation.path)
    for name, value in steps.metrics_of(evaluation.path).items():
        metrics.log_metric(name, value)


def register(
    workload: str,
    start: str,
    end: str,
    run_id: str,
    job: str,
    rows: Input[Dataset],
    training: Input[Dataset],
    model: Input[Model],
    evaluation: Input[Artifact],
    version: Output[Artifact],
) -> None:
    from components import steps

    steps.register(
        workload,
        start,
        end,
        run_id or job,
        rows.path,
        training.path,
        model.path,
        evaluation.path,
        version.path,
    )


def report(workload: str, run_id: str, job: str, status: dsl.PipelineTaskFinalStatus) -> None:
    from pipelines import ended

    ended.tell(workload, run_id, job, status.state, status.error_message or "")


def build(image: str = IMAGE) -> Any:
    """Return the pipeline as the local runner takes it; its output is the last step's artifact."""
    component = _component(image)

    def training(
        workload: str, start: str, end: str, run_id: str, data: str = "", trials: int = DEFAULT_TRIALS
    ) -> Artifact:
        tasks = _tasks(component, workload, start, end, run_id, data, trials)
        return tasks["register"].outputs["version"]

    return _pipeline(training)


def build_for_cluster(pods: "Pods") -> Any:
    """Return the pipeline as Kubeflow Pipelines takes it.

    Its arguments may be left out: an empty `start`, `end` or `data` is what the validating step finds (see
    `pipelines.span`), an empty `run_id` Kubeflow's own id of the run, so that a recurring run says what it wants once.
    """
    from pipelines import cluster
    from pipelines.pods import REPORT

    component = _component(pods.image or IMAGE)
    tell = component(report)

    def training(
        workload: str,
        start: str = "",
        end: str = "",
        run_id: str = "",
        data: str = "",
        trials: int = DEFAULT_TRIALS,
    ) -> None:
        with contextlib.ExitStack() as group:
            if pods.report:
                last = tell(workload=workload, run_id=run_id, job=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
                cluster.furnish(last, REPORT, pods)
                group.enter_context(dsl.ExitHandler(last, name="training"))
            for name, task in _tasks(component, workload, start, end, run_id, data, trials).items():
                cluster.furnish(task, name, pods)

    return _pipeline(training)


def _component(image: str) -> Any:
    return dsl.component(base_image=image, install_kfp_package=False)


def _pipeline(function: Any) -> Any:
    described = "Validates, joins, tunes, judges and registers a model."
    return dsl.pipeline(name=NAME, description=described)(function)


def _tasks(
    component: Any, workload: Any, start: Any, end: Any, run_id: Any, data: Any, trials: Any
) -> dict[str, Any]:
    """The DAG, inside a pipeline's function: task by the step's name."""
    first, second, third, fourth, last = (
        component(f) for f in (validate, training_set, tune_and_train, evaluate_and_gate, register)
    )
    checked = first(workload=workload, start=start, end=end, data=data)
    asked = {"workload": workload, "start": checked.outputs["start"], "end": checked.outputs["end"]}
    rows = checked.outputs["rows"]
    joined = second(**asked, data=checked.outputs["data"], rows=rows)
    frame = joined.outputs["training"]
    trained = third(workload=workload, trials=trials, training=frame)
    judged = fourth(workload=workload, training=frame, model=trained.outputs["model"])
    registered = last(
        **asked,
        run_id=run_id,
        job=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        rows=rows,
        training=frame,
        model=trained.outputs["model"],
        evaluation=judged.outputs["evaluation"],
    )
    return {
        "validate": checked,
        "training-set": joined,
        "tune-and-train": trained,
        "evaluate-and-gate": judged,
        "register": registered,
    }
