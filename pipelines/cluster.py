"""A pipeline's tasks with what their pods get on a cluster: `kfp.kubernetes` and the task's own setters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pipelines.pods import REPORT, USER, Pods, Retries, Step


def furnish(task: Any, name: str, pods: Pods) -> None:
    """Give a task of the step `name` what is stated for it; a task is changed in place."""
    step = pods.step(name)
    task.set_caching_options(bool(step.cache))
    _resources(task, step)
    _retries(task, step.retries or pods.retries)
    _surroundings(task, name, pods, step)


def _resources(task: Any, step: Step) -> None:
    for value, put in (
        (step.cpu, task.set_cpu_request),
        (step.memory, task.set_memory_request),
        (step.cpu_limit, task.set_cpu_limit),
        (step.memory_limit, task.set_memory_limit),
    ):
        if value is not None:
            put(value)


def _retries(task: Any, retries: Retries) -> None:
    if retries.count:
        task.set_retry(
            retries.count,
            backoff_duration=_seconds(retries.backoff),
            backoff_factor=float(retries.factor),
            backoff_max_duration=_seconds(retries.longest),
        )


def _surroundings(task: Any, name: str, pods: Pods, step: Step) -> None:
    from kfp import kubernetes

    for variable, value in {**pods.env, **step.env}.items():
        task.set_env_variable(variable, value)
    for source in (s for s in pods.config_maps if s.of(name)):
        for keys in _keys(source.env):
            kubernetes.use_config_map_as_env(task, source.name, keys, source.optional)
        if source.path is not None:
            kubernetes.use_config_map_as_volume(task, source.name, source.path, source.optional)
    for source in (s for s in pods.secrets if s.of(name)):
        for keys in _keys(source.env):
            kubernetes.use_secret_as_env(task, source.name, keys, source.optional)
        if source.path is not None:
            kubernetes.use_secret_as_volume(task, source.name, source.path, source.optional)
    for claim in pods.claims if name != REPORT else ():
        kubernetes.mount_pvc(task, claim.claim, claim.path, claim.sub_path or "")
    for label, value in pods.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in pods.tolerations:
        stated = {
            "key": toleration.key, "operator": toleration.operator, "value": toleration.value,
            "effect": toleration.effect,
        }  # fmt: skip
        kubernetes.add_toleration(task, **{k: v for k, v in stated.items() if v is not None})
    for label, value in {**pods.labels, "windlass.dev/step": name}.items():
        kubernetes.add_pod_label(task, label, value)
    for annotation, value in pods.annotations.items():
        kubernetes.add_pod_annotation(task, annotation, value)
    if pods.image_pull_policy is not None:
        kubernetes.set_image_pull_policy(task, pods.image_pull_policy)
    if pods.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(pods.image_pull_secrets))
    # Kubeflow states all else that Pod Security's level restricted asks for, and leaves this to the image's own word
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.set_timeout(task, round((step.timeout or pods.timeout).total_seconds()))


def _keys(env: Mapping[str, str]) -> list[dict[str, str]]:
    """kfp wants key -> variable, of which one mapping holds each key once; Kubernetes and we variable -> key."""
    groups: list[dict[str, str]] = []
    for variable, key in env.items():
        group = next((g for g in groups if key not in g), None)
        if group is None:
            groups.append(group := {})
        group[key] = variable
    return groups


def _seconds(duration: timedelta) -> str:
    return f"{round(duration.total_seconds())}s"
