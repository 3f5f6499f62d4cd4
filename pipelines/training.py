"""The training pipeline. Retraining is this DAG with other arguments.

The components are shells: KFP serializes a function's source, so the body imports our wheel inside. Steps pass
folders as artifacts and never share a disk, and no step branches on a verdict: the last one obeys it.
"""

from typing import Any

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from windlass import __version__

IMAGE = f"windlass/training:{__version__}"
NAME = "windlass-training"
DEFAULT_TRIALS = 6


def validate(workload: str, start: str, end: str, data: str, rows: Output[Dataset]) -> None:
    from components import steps

    steps.validate(workload, start, end, data, rows.path)


def training_set(
    workload: str, start: str, end: str, data: str, rows: Input[Dataset], training: Output[Dataset]
) -> None:
    from components import steps

    steps.training_set(workload, start, end, data, rows.path, training.path)


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
    rows: Input[Dataset],
    training: Input[Dataset],
    model: Input[Model],
    evaluation: Input[Artifact],
    version: Output[Artifact],
) -> None:
    from components import steps

    steps.register(
        workload, start, end, run_id, rows.path, training.path, model.path, evaluation.path, version.path
    )


def build(image: str = IMAGE) -> Any:
    """Return the pipeline whose steps run in `image`."""
    component = dsl.component(base_image=image, install_kfp_package=False)
    first, second, third, fourth, last = (
        component(f) for f in (validate, training_set, tune_and_train, evaluate_and_gate, register)
    )

    def training(
        workload: str, start: str, end: str, run_id: str, data: str = "", trials: int = DEFAULT_TRIALS
    ) -> Artifact:
        source = {"workload": workload, "start": start, "end": end}
        checked = first(**source, data=data)
        joined = second(**source, data=data, rows=checked.outputs["rows"])
        frame = joined.outputs["training"]
        trained = third(workload=workload, trials=trials, training=frame)
        judged = fourth(workload=workload, training=frame, model=trained.outputs["model"])
        registered = last(
            **source,
            run_id=run_id,
            rows=checked.outputs["rows"],
            training=frame,
            model=trained.outputs["model"],
            evaluation=judged.outputs["evaluation"],
        )
        # both ask the registry, which KFP's cache knows nothing of: who is champion may have changed since
        judged.set_caching_options(False)
        registered.set_caching_options(False)
        return registered.outputs["version"]

    pipeline = dsl.pipeline(name=NAME, description="Validates, joins, tunes, judges and registers a model.")
    return pipeline(training)
