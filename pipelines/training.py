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


def build(image: str = IMAGE) -> Any:
    """Return the pipeline whose steps run in `image`."""
    component = dsl.component(base_image=image, install_kfp_package=False)

    @component
    def validate(workload: str, start: str, end: str, data: str, rows: Output[Dataset]):  # type: ignore[no-untyped-def]
        from components import steps

        steps.validate(workload, start, end, data, rows.path)

    @component
    def training_set(  # type: ignore[no-untyped-def]
        workload: str, start: str, end: str, data: str, rows: Input[Dataset], training: Output[Dataset]
    ):
        from components import steps

        steps.training_set(workload, start, end, data, rows.path, training.path)

    @component
    def tune_and_train(workload: str, trials: int, training: Input[Dataset], model: Output[Model]):  # type: ignore[no-untyped-def]
        from components import steps

        steps.tune_and_train(workload, trials, training.path, model.path)

    @component
    def evaluate_and_gate(  # type: ignore[no-untyped-def]
        workload: str,
        training: Input[Dataset],
        model: Input[Model],
        evaluation: Output[Artifact],
        metrics: Output[Metrics],
    ):
        from components import steps

        steps.evaluate_and_gate(workload, training.path, model.path, evaluation.path)
        for name, value in steps.metrics_of(evaluation.path).items():
            metrics.log_metric(name, value)

    @component
    def register(  # type: ignore[no-untyped-def]
        workload: str,
        start: str,
        end: str,
        run_id: str,
        rows: Input[Dataset],
        training: Input[Dataset],
        model: Input[Model],
        evaluation: Input[Artifact],
        version: Output[Artifact],
    ):
        from components import steps

        steps.register(
            workload, start, end, run_id, rows.path, training.path, model.path, evaluation.path, version.path
        )

    @dsl.pipeline(
        name=NAME, description="Validates, joins, tunes, judges and registers one workload's model."
    )
    def training(
        workload: str, start: str, end: str, run_id: str, data: str = "", trials: int = DEFAULT_TRIALS
    ) -> Artifact:
        checked = validate(workload=workload, start=start, end=end, data=data)
        joined = training_set(
            workload=workload, start=start, end=end, data=data, rows=checked.outputs["rows"]
        )
        trained = tune_and_train(workload=workload, trials=trials, training=joined.outputs["training"])
        judged = evaluate_and_gate(
            workload=workload, training=joined.outputs["training"], model=trained.outputs["model"]
        )
        registered = register(
            workload=workload,
            start=start,
            end=end,
            run_id=run_id,
            rows=checked.outputs["rows"],
            training=joined.outputs["training"],
            model=trained.outputs["model"],
            evaluation=judged.outputs["evaluation"],
        )
        # another pod's home may be another disk, and what a run did must not be taken for what an older one did
        registered.set_caching_options(False)
        judged.set_caching_options(False)
        return registered.outputs["version"]

    return training
