"""The backend `knative` against an API server on the wire, and KServe and Knative as their controllers split."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_server import Asked, KubernetesServer, Scripted

from serving.release.backend import RejectedError, UnconfirmedError, UnreachableError
from serving.release.cluster.api import PAUSES, KubernetesApi
from serving.release.cluster.knative import KnativeBackend, Plan, Revisions, plan
from serving.release.cluster.waiting import Patience
from serving.release.traffic import Traffic, all_to
from tests.unit.serving.release.cluster.asking import Asking

SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/prod/inferenceservices/flights"
REVISIONS = "/apis/serving.knative.dev/v1/namespaces/prod/revisions"


def predictor(model: str, version: str) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "windlass"}, "storageUri": f"pvc://models/{model}/{version}"}}


def champion() -> dict[str, Any]:
    return {
        "metadata": {
            "annotations": {"windlass.dev/version": "12", "serving.kserve.io/deploymentMode": "Serverless"}
        },
        "spec": {"predictor": predictor("flights", "12")},
    }


def at_ten_percent(server: KubernetesServer, backend: Asking) -> None:
    """A canary whose first step was confirmed."""
    server.put(SERVICE, champion())
    backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))


def ask_for_half(backend: Asking) -> None:
    """Tell the next step, which Knative has not done yet."""
    with pytest.raises(UnconfirmedError):
        backend.backend.set_traffic("flights", Traffic({"12": 50, "13": 50}))


class Knative:
    """The status that KServe and Knative write: a revision for each model, and traffic by the rules of both.

    Attributes:
        broken: versions whose revision never gets ready.
        split: every split that was ever in force, as version -> percent.
    """

    def __init__(self, server: KubernetesServer) -> None:
        self.broken: set[str] = set()
        self.split: list[dict[str, int]] = []
        self._server = server
        self._revisions: list[tuple[str, str]] = []  # version and model, oldest first

    def __call__(self, path: str, live: dict[str, Any]) -> None:
        if path != SERVICE:
            return
        version = live["metadata"]["annotations"]["windlass.dev/version"]
        model = str(live["spec"]["predictor"]["model"])
        if not self._revisions or self._revisions[-1][1] != model:
            self._revisions.append((version, model))
            self._server.put(
                f"{REVISIONS}/{self._name(len(self._revisions))}",
                {"metadata": {"annotations": {"windlass.dev/version": version}}},
            )
        status = live.setdefault("status", {}).setdefault("components", {}).setdefault("predictor", {})
        ready = [n for n, (v, _) in enumerate(self._revisions, 1) if v not in self.broken]
        latest = self._name(ready[-1]) if ready else ""
        percent, rolled = (
            live["spec"]["predictor"].get("canaryTrafficPercent"),
            status.get("latestRolledoutRevision"),
        )
        if percent is None or rolled is None:
            percent = 100
        if rolled == latest and percent < 100 and status.get("previousRolledoutRevision"):
            rolled = status["latestRolledoutRevision"] = status["previousRolledoutRevision"]
        traffic = [{"latestRevision": True, "revisionName": latest, "percent": percent}]
        if percent < 100:
            traffic.append({"revisionName": rolled, "percent": 100 - percent, "tag": "prev"})
        elif rolled != latest:
            status |= {"previousRolledoutRevision": rolled or "", "latestRolledoutRevision": latest}
        status |= {"traffic": traffic, "latestReadyRevision": latest}
        split: dict[str, int] = {}
        for target in traffic:
            version = self._revisions[int(str(target["revisionName"])[-5:]) - 1][0]
            if target["percent"]:
                split[version] = split.get(version, 0) + int(str(target["percent"]))
        if not self.split or self.split[-1] != split:
            self.split.append(split)

    def _name(self, number: int) -> str:
        return f"flights-predictor-{number:05d}"


@pytest.fixture
def knative(server: KubernetesServer) -> Knative:
    controller = Knative(server)
    server.controllers.append(controller)
    return controller


@pytest.fixture
def backend(api: KubernetesApi, patience: Patience, slept: list[float]) -> Asking:
    return Asking(KnativeBackend(api, "prod", predictor, patience=patience), slept)


def test_a_whole_release_and_its_rollback(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify each step of a release, going back after promotion, and that nobody ever got traffic in between."""
    server.put(SERVICE, champion())
    assert backend.traffic("flights") == all_to("12")
    steps = ({"12": 90, "13": 10}, {"12": 50, "13": 50}, {"13": 100}, {"12": 100})
    for weights in steps:
        backend.set_traffic("flights", Traffic(weights))
        assert backend.traffic("flights") == Traffic(weights)
    assert knative.split == [{"12": 100}, *steps]


def test_a_new_version_starts_without_traffic(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify that after an aborted release the bad version gets nothing while the next one starts."""
    at_ten_percent(server, backend)
    backend.set_traffic("flights", all_to("12"))
    server.asked.clear()
    backend.set_traffic("flights", Traffic({"12": 95, "14": 5}))
    first, second = server.writes()
    assert first.body["spec"]["predictor"] == {
        "model": {"storageUri": "pvc://models/flights/14"}
    }  # 0 percent as it was
    assert first.body["metadata"]["annotations"] == {"windlass.dev/version": "14"}
    assert second.body["spec"]["predictor"] == {"canaryTrafficPercent": 5}
    assert knative.split[-2:] == [{"12": 100}, {"12": 95, "14": 5}]


def test_a_version_that_does_not_come_up_gets_nothing(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify that a revision which never gets ready ends the step, with all traffic where it was."""
    server.put(SERVICE, champion())
    knative.broken.add("13")
    with pytest.raises(
        RejectedError, match=r"the revision of version 13 is not ready .* it is given no traffic"
    ):
        backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    assert backend.traffic("flights") == all_to("12")
    assert knative.split == [{"12": 100}]


def test_nobody_waits_for_a_revision(server: KubernetesServer, knative: Knative, backend: Asking) -> None:
    """Verify that a version gets its share at the first call that finds its revision ready, and that a way back in
    between leaves it without any."""
    server.put(SERVICE, champion())
    knative.broken.add("13")
    for _ in range(2):
        with pytest.raises(UnconfirmedError, match="the revision of version 13 is not ready"):
            backend.backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    knative.broken.clear()
    backend.backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    assert knative.split == [{"12": 100}, {"12": 90, "13": 10}]
    knative.broken.add("14")
    backend.set_traffic("flights", all_to("12"))
    with pytest.raises(UnconfirmedError):
        backend.backend.set_traffic("flights", Traffic({"12": 90, "14": 10}))
    backend.set_traffic("flights", all_to("12"))
    assert knative.split[-1] == {"12": 100} and not any("14" in split for split in knative.split)


def test_after_a_restart_a_revision_is_still_waited_for(
    server: KubernetesServer, knative: Knative, api: KubernetesApi, patience: Patience, slept: list[float]
) -> None:
    """Verify that a process which finds its version in the spec gives it nothing before its revision is ready: until
    then the percentage is the bad version's of the release before."""
    server.put(SERVICE, champion())
    first = Asking(KnativeBackend(api, "prod", predictor, patience=patience), slept)
    first.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    first.set_traffic("flights", all_to("12"))
    knative.broken.add("14")
    with pytest.raises(UnconfirmedError, match="the revision of version 14 is not ready"):
        first.backend.set_traffic("flights", Traffic({"12": 90, "14": 10}))
    second = KnativeBackend(api, "prod", predictor, patience=patience)
    for _ in range(2):
        with pytest.raises(UnconfirmedError, match="the revision of version 14 is not ready"):
            second.set_traffic("flights", Traffic({"12": 90, "14": 10}))
    assert knative.split[-1] == {"12": 100}
    knative.broken.clear()
    second.set_traffic("flights", Traffic({"12": 90, "14": 10}))
    assert knative.split[-2:] == [{"12": 100}, {"12": 90, "14": 10}]


def test_a_second_try_gives_no_more_than_the_first(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify that a version which did not come up in time is waited for at every try, and never gets the share."""
    at_ten_percent(server, backend)
    backend.set_traffic("flights", all_to("12"))
    knative.broken.add("14")
    for _ in range(3):
        with pytest.raises(
            RejectedError, match=r"version 14 is not ready .*\(waited 5 s\); it is given no traffic"
        ):
            backend.set_traffic("flights", Traffic({"12": 90, "14": 10}))
    assert knative.split == [{"12": 100}, {"12": 90, "13": 10}, {"12": 100}]


def test_a_promotion_that_overtakes_the_first_step_waits_as_well(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify that a person's promotion gives a version everything only once its revision is ready."""
    at_ten_percent(server, backend)
    backend.set_traffic("flights", all_to("12"))
    knative.broken.add("14")
    for traffic in (Traffic({"12": 90, "14": 10}), all_to("14")):
        with pytest.raises(UnconfirmedError, match="the revision of version 14 is not ready"):
            backend.backend.set_traffic("flights", traffic)
    assert knative.split[-1] == {"12": 100}
    knative.broken.clear()
    backend.set_traffic("flights", all_to("14"))
    assert knative.split[-2:] == [{"12": 100}, {"14": 100}]


def test_what_overtakes_an_unconfirmed_percentage_brings_back_what_was_confirmed(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify that a step which nobody obeys ends at the last confirmed split."""
    at_ten_percent(server, backend)
    server.controllers.clear()
    ask_for_half(backend)
    with pytest.raises(RejectedError, match="put back"):
        backend.set_traffic("flights", Traffic({"12": 80, "13": 20}))
    assert server.objects[SERVICE]["spec"]["predictor"]["canaryTrafficPercent"] == 10


def test_a_way_back_that_is_late_stays_told(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify that a rollback which Knative does not do in time is not undone."""
    at_ten_percent(server, backend)
    server.controllers.clear()
    with pytest.raises(RejectedError, match=r"\(waited 5 s\); it stays told"):
        backend.set_traffic("flights", all_to("12"))
    assert server.objects[SERVICE]["spec"]["predictor"]["canaryTrafficPercent"] == 0


def test_a_percentage_that_nobody_confirmed_is_not_put_back(
    server: KubernetesServer,
    knative: Knative,
    api: KubernetesApi,
    backend: Asking,
    patience: Patience,
    slept: list[float],
) -> None:
    """Verify that after a restart a percentage which Knative does not do is not said to be what was before."""
    at_ten_percent(server, backend)
    server.controllers.clear()
    ask_for_half(backend)
    second = Asking(KnativeBackend(api, "prod", predictor, patience=patience), slept)
    with pytest.raises(RejectedError, match="what was before is not known, so it stays told"):
        second.set_traffic("flights", Traffic({"12": 50, "13": 50}))


def test_what_could_not_be_put_back_is_put_back_at_the_next_call(
    server: KubernetesServer, knative: Knative, backend: Asking, slept: list[float]
) -> None:
    """Verify that an outage at the end of the time does not begin it anew."""
    at_ten_percent(server, backend)
    server.controllers.clear()
    ask_for_half(backend)
    slept.append(60.0)
    down = Scripted(503, b'{"message": "down"}')

    def last_answer(asked: Asked) -> str | None:
        server.scripted += [down] * (len(PAUSES) + 1)
        return None

    server.forbids = last_answer
    with pytest.raises(UnreachableError):
        backend.backend.set_traffic("flights", Traffic({"12": 50, "13": 50}))
    server.forbids = lambda asked: None
    with pytest.raises(RejectedError, match="its percentage is put back"):
        backend.backend.set_traffic("flights", Traffic({"12": 50, "13": 50}))
    assert server.objects[SERVICE]["spec"]["predictor"]["canaryTrafficPercent"] == 10


def test_a_percentage_that_nobody_obeys_is_caught(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify that what Knative says counts, and that the percentage is put back."""
    at_ten_percent(server, backend)
    server.controllers.clear()
    with pytest.raises(RejectedError, match=r"Knative says \{'13': 10, '12': 90\}, not .*put back"):
        backend.set_traffic("flights", Traffic({"12": 50, "13": 50}))
    assert server.objects[SERVICE]["spec"]["predictor"]["canaryTrafficPercent"] == 10


@pytest.mark.parametrize("mode", ["Standard", "RawDeployment"])
def test_standard_mode_is_refused(server: KubernetesServer, backend: Asking, mode: str) -> None:
    """Verify that the mode in which KServe ignores the percentage is found out before anything is written."""
    service = champion()
    service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = mode
    server.put(SERVICE, service)
    with pytest.raises(
        RejectedError, match=f"runs in {mode} mode, where KServe ignores canaryTrafficPercent"
    ):
        backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    assert server.writes() == []


def test_a_missing_service_and_a_foreign_revision(
    server: KubernetesServer, knative: Knative, backend: Asking
) -> None:
    """Verify that a revision which does not say its version is shown by its own name."""
    assert backend.traffic("flights") is None
    with pytest.raises(RejectedError, match="does not exist"):
        backend.set_traffic("flights", all_to("12"))
    server.put(SERVICE, champion())
    server.objects[f"{REVISIONS}/flights-predictor-00001"]["metadata"].pop("annotations")
    assert backend.traffic("flights") == all_to("flights-predictor-00001")


@pytest.mark.parametrize(
    ("revisions", "weights", "decided"),
    [
        pytest.param(Revisions("12", "12", None), {"12": 100}, Plan(None, 100), id="nothing-to-do"),
        pytest.param(Revisions("12", "12", None), {"12": 90, "13": 10}, Plan("13", 10), id="first-step"),
        pytest.param(Revisions("13", "12", None), {"12": 50, "13": 50}, Plan(None, 50), id="next-step"),
        pytest.param(Revisions("13", "12", None), {"13": 100}, Plan(None, 100), id="promote"),
        pytest.param(Revisions("13", "12", None), {"12": 100}, Plan(None, 0), id="abort"),
        pytest.param(Revisions("13", "13", "12"), {"12": 100}, Plan(None, 0), id="rollback-after-promotion"),
        pytest.param(Revisions("13", "13", "12"), {"13": 80, "14": 20}, Plan("14", 20), id="next-release"),
        pytest.param(Revisions("13", "12", "11"), {"11": 100}, Plan("11", 100), id="older-version"),
        pytest.param(Revisions("13", "13", "12"), {"13": 20, "12": 80}, Plan(None, 20), id="back-in-part"),
    ],
)
def test_how_weights_are_reached(revisions: Revisions, weights: dict[str, int], decided: Plan) -> None:
    """Verify each row of what KServe can do from where it stands."""
    assert plan("flights", revisions, weights) == decided


@pytest.mark.parametrize(
    ("revisions", "weights"),
    [
        pytest.param(Revisions("13", "12", None), {"13": 50, "14": 50}, id="canary-and-a-new-one"),
        pytest.param(Revisions(None, None, None), {"12": 90, "13": 10}, id="nothing-known"),
    ],
)
def test_what_kserve_cannot_split_is_refused(revisions: Revisions, weights: dict[str, int]) -> None:
    """Verify that two versions of which none is rolled out are never told as something else."""
    with pytest.raises(RejectedError, match="KServe splits between the latest revision"):
        plan("flights", revisions, weights)
