"""A namespace with operators, and its releases as a person sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import INFERENCE_SERVICE
from serving.release.cluster.store import ClusterStore
from tests.cluster import operator_stage as stage
from tests.cluster.api_server import ApiServer
from tests.cluster.operator_stage import WITHIN_S, Controllers, Operator, Traffic, eventually

ENDED = ("Promoted", "RolledBack", "Aborted", "Refused")


@contextmanager
def of_a_test(
    test: str, server: ApiServer, folder: Path, traffic: Traffic, prometheus: str
) -> Iterator[Team]:
    """A namespace called after a test, with controllers that see its traffic.

    Args:
        test: the test's name, as pytest has it.
    """
    name = test.removeprefix("test_").replace("_", "-")[:50].strip("-")
    made = Team(server, name, folder, traffic, prometheus)
    with closing(made), made.controllers:
        traffic.controllers.append(made.controllers)
        yield made
        traffic.controllers.remove(made.controllers)


class Team:
    """A namespace with operators, and its releases as a person sees them."""

    def __init__(self, server: ApiServer, name: str, folder: Path, traffic: Traffic, prometheus: str) -> None:
        self.server, self.name, self.traffic = server, name, traffic
        self.controllers = Controllers(server, name)
        self._kubeconfig = stage.namespace(server, name)
        self._folder = folder
        self._api = KubernetesApi.connect(server.kubeconfig)
        self._env = {"WINDLASS_PROMETHEUS_URL": prometheus, "WINDLASS_SCRAPE_INTERVAL": "500ms"}
        self.operators: list[Operator] = []

    def operator(self, name: str = "one", **env: str) -> Operator:
        made = Operator(
            self._kubeconfig, self.name, self._folder / f"{name}.log", **self._env, POD_NAME=name, **env
        )
        self.operators.append(made)
        return made.start()

    def close(self) -> None:
        for operator in self.operators:
            operator.kill()

    def apply(self, document: dict[str, Any]) -> None:
        stage.apply(self.server, self.name, document)

    def release(self, name: str) -> dict[str, Any]:
        found = stage.get(self.server, self.name, name)
        assert found is not None, f"{name} is gone"
        return found

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.release(name).get("status", {})
        return found

    def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        return {c["type"]: (c["status"], c["reason"]) for c in self.status(name)["conditions"]}

    def until(
        self, name: str, *phases: str, step: int | None = None, within_s: float = WITHIN_S
    ) -> dict[str, Any]:
        """The status once the release is in one of the phases, and no earlier than at a step."""

        def there() -> dict[str, Any] | None:
            assert any(operator.running for operator in self.operators), self.logs()
            said = self.status(name)
            ended = said.get("phase") in ENDED and said.get("phase") not in phases
            assert not ended, f"{name} is {said['phase']}: {said.get('message')}\n{self.logs()}"
            far = step is None or said.get("step", 0) >= step
            return said if said.get("phase") in phases and far else None

        try:
            return dict(eventually(there, f"{name} becomes {' or '.join(phases)}", within_s))
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{json.dumps(self.status(name), indent=1)}\n{self.logs()}"
            ) from None

    def weights(self, model: str) -> dict[str, int]:
        return {v: weight for v, weight in self.controllers.weights.get(model, {}).items() if weight}

    def events(self, name: str) -> list[str]:
        listed = self.server.request("GET", f"/apis/events.k8s.io/v1/namespaces/{self.name}/events")
        found = [e for e in listed["items"] if e["regarding"]["name"] == name]
        return [e["reason"] for e in sorted(found, key=lambda e: e["eventTime"])]

    def journal(self, name: str) -> list[dict[str, Any]]:
        store = ClusterStore(self._api, self.name, None)
        entries = [entry for model in store.models() for entry in store.entries(model) if entry.name == name]
        return [dict(record) for entry in entries for record in store.records(entry)]

    def acts(self, name: str) -> list[str]:
        """What was decided and done, in order, each once for each time."""
        return [r["action"] for r in self.journal(name) if r["kind"] == "decision" and r["acts"]]

    def versions(self, model: str) -> set[str]:
        listed = self.server.request("GET", INFERENCE_SERVICE.path(self.name))
        return {
            o["metadata"]["labels"]["windlass.dev/version"]
            for o in listed["items"]
            if o["metadata"]["labels"]["windlass.dev/model"] == model
        }

    def command(self, name: str, value: str) -> None:
        self.server.kubectl(
            "annotate",
            "-n",
            self.name,
            "release",
            name,
            f"windlass.dev/command={value}",
            "windlass.dev/by=ana",
        )

    def logs(self) -> str:
        return "\n".join(f"--- {o.log.name}\n{o.said()[-3000:]}" for o in self.operators)
