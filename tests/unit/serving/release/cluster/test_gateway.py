"""The backend `gateway` against an API server on the wire and a controller that accepts, refuses or is away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from kubernetes_server import Asked, KubernetesServer, Scripted

from serving.release.backend import RejectedError, UnconfirmedError, UnreachableError
from serving.release.cluster.api import PAUSES, KubernetesApi
from serving.release.cluster.gateway import GatewayBackend
from serving.release.cluster.http_route import FOREIGN
from serving.release.cluster.waiting import Patience
from serving.release.envoy import lua as envoy_lua
from serving.release.release import Gateway
from serving.release.traffic import Assignment, Match, Segments, Traffic, Unit, all_to
from tests.unit.serving.release.cluster.asking import Asking

NAMESPACE = "/namespaces/prod/"
ROUTE = f"/apis/gateway.networking.k8s.io/v1{NAMESPACE}httproutes/windlass-flights"
POLICY = f"/apis/gateway.envoyproxy.io/v1alpha1{NAMESPACE}envoyextensionpolicies/windlass-flights"
TRIAL_ROUTE, TRIAL_POLICY = f"{ROUTE}.trial", f"{POLICY}.trial"
GATEWAY = Gateway(
    name="public", namespace="edge", hostnames=("flights.example.com",), extension="envoyGateway"
)

CANARY = Traffic({"12": 90, "13": 10})
ASSIGNED = Traffic(
    {"12": 50, "13": 50},
    assignment=Assignment(
        Unit("cookie", "user"), "flights-13", {"12": ((0, 5_000),), "13": ((5_000, 10_000),)}, "12"
    ),
)
MOVED = Traffic(
    {"12": 40, "13": 60},
    assignment=Assignment(
        Unit("cookie", "user"), "flights-13", {"12": ((0, 4_000),), "13": ((4_000, 10_000),)}, "12"
    ),
)

Controller = Callable[[str, dict[str, Any]], None]


def says(*, services: set[str] | None = None, lua: bool = True, lag: int = 0) -> Controller:
    """A Gateway's controller: it knows `services` (None: every one), and speaks at the `lag`-th look at an object."""
    looks: dict[tuple[str, int], int] = {}

    def condition(kind: str, generation: int, problem: str) -> dict[str, Any]:
        said = {"type": kind, "status": "False" if problem else "True", "observedGeneration": generation}
        return {**said, "reason": problem.partition(":")[0] or kind, "message": problem.partition(": ")[2]}

    def control(path: str, live: dict[str, Any]) -> None:
        generation = live["metadata"]["generation"]
        looks[path, generation] = looks.get((path, generation), 0) + 1
        if looks[path, generation] <= lag:
            return
        if path == ROUTE:
            named = {ref["name"] for rule in live["spec"]["rules"] for ref in rule["backendRefs"]}
            unknown = sorted(named - (services if services is not None else named))
            problem = f"BackendNotFound: Service {unknown[0]} not found" if unknown else ""
            conditions = [
                condition("Accepted", generation, ""),
                condition("ResolvedRefs", generation, problem),
            ]
            parent = {"name": "public", "namespace": "edge"}
            live["status"] = {"parents": [{"parentRef": parent, "conditions": conditions}]}
        elif path in (POLICY, TRIAL_POLICY):
            problem = "" if lua else "Invalid: Skipping Lua EnvoyExtensionPolicy as feature is disabled"
            live["status"] = {"ancestors": [{"conditions": [condition("Accepted", generation, problem)]}]}

    return control


@pytest.fixture
def backend(api: KubernetesApi, patience: Patience, slept: list[float]) -> Asking:
    return Asking(GatewayBackend(api, "prod", GATEWAY, patience=patience), slept)


@pytest.mark.parametrize(
    "traffic",
    [
        pytest.param(all_to("12"), id="all-to-one"),
        pytest.param(CANARY, id="canary"),
        pytest.param(replace(CANARY, matches=(Match("cookie", "group", "beta", "13"),)), id="match"),
        pytest.param(Traffic({"12": 100}, mirror_to="13", mirror_percent=20), id="shadow"),
        pytest.param(Traffic({"12": 100}, mirror_to="13"), id="whole-shadow"),
        pytest.param(replace(CANARY, segments=Segments("x-device", {"mobile": {"13": 100}})), id="segments"),
        pytest.param(ASSIGNED, id="experiment"),
    ],
)
def test_what_is_told_is_read_back(server: KubernetesServer, backend: Asking, traffic: Traffic) -> None:
    """Verify that each kind of traffic is in force once the controller accepted it, and reads as itself."""
    server.controllers.append(says(lag=2))
    assert backend.traffic("flights") is None
    backend.set_traffic("flights", traffic)
    assert backend.traffic("flights") == traffic
    backend.set_traffic("flights", traffic)
    assert server.objects[ROUTE]["metadata"]["generation"] == 1


def test_one_write_changes_the_weights(server: KubernetesServer, backend: Asking) -> None:
    """Verify that a step, and a rollback, is one server-side apply onto the route that was read."""
    server.controllers.append(says())
    backend.set_traffic("flights", CANARY)
    read = server.objects[ROUTE]["metadata"]["resourceVersion"]
    server.asked.clear()
    backend.set_traffic("flights", all_to("12"))
    (write,) = server.writes()
    assert (write.method, write.path, write.content_type) == ("PATCH", ROUTE, "application/apply-patch+yaml")
    assert write.body["metadata"]["resourceVersion"] == read
    # the candidate's place is kept, for proxies that have not heard of it
    assert [(ref["name"], ref["weight"]) for ref in write.body["spec"]["rules"][0]["backendRefs"]] == [
        ("flights-12-predictor", 99),
        ("flights-12-predictor", 1),
    ]


def test_an_experiment_brings_its_script_and_takes_it_away(server: KubernetesServer, backend: Asking) -> None:
    """Verify the order (a trial, the script, then rules; rules, then no script), and that a move of buckets leaves the
    script be."""
    server.controllers.append(says(lag=2))
    backend.set_traffic("flights", ASSIGNED)
    assert [(write.method, write.path) for write in server.writes()] == [
        ("PATCH", TRIAL_ROUTE),
        ("PATCH", TRIAL_POLICY),
        ("PATCH", POLICY),
        ("DELETE", TRIAL_POLICY),
        ("DELETE", TRIAL_ROUTE),
        ("PATCH", ROUTE),
    ]
    tried = server.writes()[1].body["spec"]
    assert tried["targetRefs"][0]["name"] == "windlass-flights.trial"
    assert tried["lua"] == server.objects[POLICY]["spec"]["lua"]
    assert not {TRIAL_ROUTE, TRIAL_POLICY} & set(server.objects)
    policy = server.objects[POLICY]["spec"]
    assert policy["lua"] == [
        {"type": "Inline", "inline": envoy_lua.script(Unit("cookie", "user"), "flights-13")}
    ]
    assert policy["targetRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "windlass-flights"}
    ]
    backend.set_traffic("flights", MOVED)
    assert server.objects[POLICY]["metadata"]["generation"] == 1
    assert backend.traffic("flights") == MOVED
    server.asked.clear()
    backend.set_traffic("flights", all_to("13"))
    assert [(write.method, write.path) for write in server.writes()] == [("PATCH", ROUTE), ("DELETE", POLICY)]


@pytest.mark.parametrize("change", ["deleted", "other-salt", "other-target", "refused"])
def test_an_experiment_without_its_script_is_none(
    server: KubernetesServer, backend: Asking, change: str
) -> None:
    """Verify that rules for buckets which nothing computes (or computes otherwise) do not read as the experiment."""
    server.controllers.append(says())
    backend.set_traffic("flights", ASSIGNED)
    policy = server.objects[POLICY]
    if change == "deleted":
        del server.objects[POLICY]
    elif change == "other-salt":
        policy["spec"]["lua"][0]["inline"] = envoy_lua.script(Unit("cookie", "user"), "other")
    elif change == "other-target":
        policy["spec"]["targetRefs"][0]["name"] = "windlass-other"
    else:
        server.controllers[:] = [says(lua=False)]
    assert backend.traffic("flights") == FOREIGN


def test_a_refused_route_gives_way_to_the_one_before(
    server: KubernetesServer, backend: Asking, slept: list[float]
) -> None:
    """Verify that a Service which does not exist ends in the controller's words and the former route."""
    server.controllers.append(says(services={"flights-12-predictor"}))
    backend.set_traffic("flights", all_to("12"))
    with pytest.raises(
        RejectedError,
        match=r"HTTPRoute prod/windlass-flights: ResolvedRefs is False, BackendNotFound: Service flights-13-predictor "
        "not found; what was before is in force again",
    ):
        backend.set_traffic("flights", CANARY)
    assert backend.traffic("flights") == all_to("12")
    assert sum(slept) < 5.0  # a lasting no is not waited out


def test_a_refused_first_route_is_deleted(server: KubernetesServer, backend: Asking) -> None:
    """Verify that nothing is left where there was nothing."""
    server.controllers.append(says(services=set()))
    with pytest.raises(RejectedError, match="there was none before, so it is deleted"):
        backend.set_traffic("flights", CANARY)
    assert ROUTE not in server.objects


def test_a_refusal_at_the_door_leaves_the_former_script(server: KubernetesServer, backend: Asking) -> None:
    """Verify that an API server which takes the new script but not the new rules ends with neither."""
    server.controllers.append(says())
    backend.set_traffic("flights", ASSIGNED)
    assert ASSIGNED.assignment is not None
    other = replace(ASSIGNED, assignment=replace(ASSIGNED.assignment, salt="other"))
    refused: list[str] = []

    def once(asked: Asked) -> str | None:
        if asked.method == "PATCH" and asked.path == ROUTE and not refused:
            refused.append(asked.path)
            return "quota"
        return None

    server.forbids = once
    with pytest.raises(RejectedError, match=r"answered 403: quota.* what was before is in force again"):
        backend.set_traffic("flights", other)
    assert backend.traffic("flights") == ASSIGNED


def test_a_service_that_comes_a_moment_later_is_waited_for(
    server: KubernetesServer, backend: Asking, slept: list[float]
) -> None:
    """Verify that a no which turns into a yes within the stated time is a yes."""
    services = {"flights-12-predictor"}
    server.controllers += [
        says(services=services),
        lambda *_: services.add("flights-13-predictor") if slept else None,
    ]
    backend.set_traffic("flights", CANARY)
    assert backend.traffic("flights") == CANARY


def test_a_controller_that_is_away_is_not_a_yes(
    server: KubernetesServer, backend: Asking, slept: list[float]
) -> None:
    """Verify that the yes to the former generation does not pass for one to this, and that waiting ends."""
    server.controllers.append(says())
    backend.set_traffic("flights", all_to("12"))
    server.controllers.clear()
    with pytest.raises(
        RejectedError, match=r"Gateway edge/public has not said Accepted .*generation 2 \(waited 5 s\)"
    ):
        backend.set_traffic("flights", CANARY)
    assert backend.traffic("flights") == all_to("12")


def test_scripts_that_are_off_are_named(server: KubernetesServer, backend: Asking) -> None:
    """Verify that an Envoy Gateway without Lua refuses the experiment, says what to switch on, and leaves no rules."""
    server.controllers.append(says(lua=False))
    backend.set_traffic("flights", all_to("12"))
    with pytest.raises(
        RejectedError, match=r"feature is disabled; Envoy Gateway must be told extensionApis.enableLua"
    ):
        backend.set_traffic("flights", ASSIGNED)
    assert backend.traffic("flights") == all_to("12")
    assert POLICY not in server.objects


def test_a_script_that_is_refused_never_meets_a_request(server: KubernetesServer, backend: Asking) -> None:
    """Verify that it is tried on a route that nobody asks, since a route whose policy is refused answers 500, and that
    nothing of the trial is left; nor of one whose process ended."""
    server.controllers.append(says(lua=False))
    backend.set_traffic("flights", all_to("12"))
    before = server.objects[ROUTE]
    for _ in range(2):
        with pytest.raises(RejectedError, match="feature is disabled"):
            backend.set_traffic("flights", ASSIGNED)
    written = [write for write in server.writes() if write.method == "PATCH"]
    assert POLICY not in [write.path for write in written]
    (tried, _) = (write.body["spec"] for write in written if write.path == TRIAL_ROUTE)
    assert tried["hostnames"] == ["flights.example.com"]
    (rule,) = tried["rules"]
    assert rule == {"matches": [{"path": {"type": "Exact", "value": "/windlass/trial/flights"}}]}
    assert server.objects[ROUTE]["metadata"]["generation"] == before["metadata"]["generation"]
    assert not {TRIAL_ROUTE, TRIAL_POLICY} & set(server.objects)


def test_what_an_ended_process_left_of_a_trial_goes_with_the_next(
    server: KubernetesServer, api: KubernetesApi, backend: Asking
) -> None:
    """Verify that another process goes on with a trial that was begun."""
    with pytest.raises(UnconfirmedError):
        GatewayBackend(api, "prod", GATEWAY).set_traffic("flights", ASSIGNED)
    assert {TRIAL_ROUTE, TRIAL_POLICY} <= set(server.objects) and POLICY not in server.objects
    server.controllers.append(says())
    backend.set_traffic("flights", ASSIGNED)
    assert backend.traffic("flights") == ASSIGNED
    assert not {TRIAL_ROUTE, TRIAL_POLICY} & set(server.objects)


def test_without_an_extension_an_experiment_is_refused(api: KubernetesApi, server: KubernetesServer) -> None:
    """Verify that nothing is written, and that no policy of an unknown kind is ever asked for."""
    plain = GatewayBackend(api, "prod", replace(GATEWAY, extension=None))
    with pytest.raises(RejectedError, match="Gateway public has no extension that assigns units"):
        plain.set_traffic("flights", ASSIGNED)
    assert server.asked == []


def test_pairs_are_refused(backend: Asking, server: KubernetesServer) -> None:
    """Verify that mirroring both ways is never half done."""
    with pytest.raises(RejectedError, match="score its own requests twice"):
        backend.set_traffic("flights", replace(CANARY, mirror_to="13"))
    assert server.asked == []


@pytest.mark.parametrize(
    ("model", "traffic", "words"),
    [
        pytest.param("flights_late", CANARY, "cannot name a Service", id="name"),
        pytest.param("flights", Traffic({"1.0": 100}), "cannot name a Service", id="version"),
        pytest.param(
            "flights",
            replace(CANARY, matches=(Match("cookie", "group", "a;b", "13"),)),
            "without comma",
            id="cookie",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(
    server: KubernetesServer, backend: Asking, model: str, traffic: Traffic, words: str
) -> None:
    """Verify that a name which no route can hold is refused as any other traffic is, before anything is asked."""
    with pytest.raises(RejectedError, match=words):
        backend.set_traffic(model, traffic)
    assert server.asked == []


def test_nobody_waits_for_the_controller(server: KubernetesServer, backend: Asking) -> None:
    """Verify that a call ends with the writing, that the next ones only read, and how many requests that takes."""
    server.controllers.append(says())
    backend.set_traffic("flights", all_to("12"))
    server.controllers[:] = [says(lag=2)]
    asks: list[list[str]] = []
    for _ in range(2):
        server.asked.clear()
        with pytest.raises(UnconfirmedError, match="has not said Accepted"):
            backend.backend.set_traffic("flights", CANARY)
        asks.append([asked.method for asked in server.asked if asked.path == ROUTE])
    assert asks == [["GET", "PATCH"], ["GET"]]
    backend.backend.set_traffic("flights", CANARY)
    assert backend.traffic("flights") == CANARY


def test_what_overtakes_an_unconfirmed_change_brings_back_what_was_confirmed(
    server: KubernetesServer, backend: Asking
) -> None:
    """Verify that a way back which is refused does not end in a split that nobody ever confirmed."""
    server.controllers.append(says())
    backend.set_traffic("flights", CANARY)
    server.controllers[:] = [says(lag=99)]
    with pytest.raises(UnconfirmedError):
        backend.backend.set_traffic("flights", Traffic({"12": 50, "13": 50}))
    server.controllers[:] = [says(services={"flights-13-predictor"})]
    with pytest.raises(RejectedError, match="what was before is in force again"):
        backend.set_traffic("flights", all_to("12"))
    refs = server.objects[ROUTE]["spec"]["rules"][0]["backendRefs"]
    assert [ref["weight"] for ref in refs] == [90, 10]


def test_after_a_restart_a_route_that_nobody_accepted_is_not_what_was_before(
    server: KubernetesServer, api: KubernetesApi, backend: Asking, patience: Patience, slept: list[float]
) -> None:
    """Verify that a process which finds the route of an unconfirmed decision does not say that it is in force."""
    server.controllers.append(says(services={"flights-12-predictor"}))
    backend.set_traffic("flights", all_to("12"))
    with pytest.raises(UnconfirmedError, match="BackendNotFound"):
        backend.backend.set_traffic("flights", CANARY)
    second = Asking(GatewayBackend(api, "prod", GATEWAY, patience=patience), slept)
    for _ in range(2):
        with pytest.raises(
            RejectedError, match="what was before is not known to be accepted, so this stays told"
        ):
            second.set_traffic("flights", CANARY)
    backend.set_traffic("flights", all_to("12"))
    assert backend.traffic("flights") == all_to("12")


def test_a_way_back_that_is_late_stays_told(server: KubernetesServer, backend: Asking) -> None:
    """Verify that a rollback of which the controller says nothing in time is not undone, and is heard of later."""
    server.controllers.append(says())
    backend.set_traffic("flights", CANARY)
    server.controllers[:] = []
    with pytest.raises(RejectedError, match=r"generation 2 \(waited 5 s\); it stays told"):
        backend.set_traffic("flights", all_to("12"))
    server.controllers.append(says())
    server.asked.clear()
    backend.set_traffic("flights", all_to("12"))
    assert backend.traffic("flights") == all_to("12")
    assert server.objects[ROUTE]["metadata"]["generation"] == 2


def test_an_outage_is_no_part_of_the_controllers_time(
    server: KubernetesServer, backend: Asking, slept: list[float]
) -> None:
    """Verify that a controller which was as blind as we were has its whole time after it."""
    server.controllers.append(says(lag=4))
    with pytest.raises(UnconfirmedError):
        backend.backend.set_traffic("flights", CANARY)
    slept.append(60.0)
    server.scripted += [Scripted(503, b'{"message": "down"}')] * (len(PAUSES) + 1)
    with pytest.raises(UnreachableError):
        backend.backend.set_traffic("flights", CANARY)
    backend.set_traffic("flights", CANARY)
    assert backend.traffic("flights") == CANARY


def test_others_who_write_all_the_time_end_the_change(server: KubernetesServer, backend: Asking) -> None:
    """Verify that a write which never succeeds is given up when the controller's time is over."""
    server.controllers.append(says())
    backend.set_traffic("flights", all_to("12"))

    def race(path: str, live: dict[str, Any]) -> None:
        if path == ROUTE:
            server.version += 1
            server.objects[path] = {
                **live, "metadata": {**live["metadata"], "resourceVersion": str(server.version)}
            }  # fmt: skip

    server.controllers.append(race)
    with pytest.raises(RejectedError, match=r"\(waited 5 s\)"):
        backend.set_traffic("flights", CANARY)


def test_a_conflict_is_read_again(server: KubernetesServer, backend: Asking, slept: list[float]) -> None:
    """Verify that a controller's write in between costs another look, not the step."""
    server.controllers.append(says())
    backend.set_traffic("flights", all_to("12"))
    raced: list[str] = []

    def race(path: str, live: dict[str, Any]) -> None:
        if path == ROUTE and len(raced) < 4:  # each read is outdated by the time of the write
            raced.append(path)
            server.version += 1
            server.objects[path] = {
                **live, "metadata": {**live["metadata"], "resourceVersion": str(server.version)}
            }  # fmt: skip

    server.controllers.append(race)
    server.asked.clear()
    backend.set_traffic("flights", CANARY)
    assert backend.traffic("flights") == CANARY


def test_two_writers_do_not_go_unseen(server: KubernetesServer, backend: Asking) -> None:
    """Verify that who undoes our write at once is reported, not taken for the controller."""
    server.controllers.append(says())
    backend.set_traffic("flights", all_to("12"))
    theirs = server.objects[ROUTE]["spec"]

    def undo(path: str, live: dict[str, Any]) -> None:
        if path == ROUTE:
            live["spec"] = theirs

    server.controllers.append(undo)
    with pytest.raises(RejectedError, match="somebody else writes it"):
        backend.set_traffic("flights", CANARY)


def test_a_refused_route_that_is_live_routes_nothing(server: KubernetesServer, backend: Asking) -> None:
    """Verify that a Service deleted behind a live route is seen at the next reading."""
    services = {"flights-12-predictor", "flights-13-predictor"}
    server.controllers.append(says(services=services))
    backend.set_traffic("flights", CANARY)
    services.remove("flights-13-predictor")
    assert backend.traffic("flights") == FOREIGN


def test_an_api_server_that_is_down_decides_nothing(
    server: KubernetesServer, backend: Asking, slept: list[float]
) -> None:
    """Verify that neither reading nor writing concludes anything while nobody answers."""
    down = Scripted(503, b'{"message": "down"}')
    server.scripted += [down] * (2 * (len(PAUSES) + 1))
    for call in (lambda: backend.traffic("flights"), lambda: backend.set_traffic("flights", CANARY)):
        with pytest.raises(UnreachableError, match="503: down"):
            call()
    assert server.writes() == []


def test_a_failed_restoration_says_so(server: KubernetesServer, backend: Asking) -> None:
    """Verify that an error on the way back is not hidden behind the first one."""
    server.controllers.append(says(services={"flights-12-predictor"}))
    backend.set_traffic("flights", all_to("12"))

    server.asked.clear()
    server.forbids = lambda asked: "no longer" if asked in server.writes()[1:] else None
    with pytest.raises(
        RejectedError, match=r"ResolvedRefs.*not be brought back \(.*no longer.*it must be looked at"
    ):
        backend.set_traffic("flights", CANARY)
