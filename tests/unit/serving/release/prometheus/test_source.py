"""What is made of every answer of Prometheus, over real HTTP."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serving.release.prometheus.client import NonsenseError, Prometheus, SilentError
from serving.release.prometheus.source import LATENCIES, PrometheusSource
from serving.release.prometheus.templates import ENVOY, envoy_gateway
from serving.release.statistics.histogram import Histogram
from windlass.errors import UsageError

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
T = SINCE.timestamp()
AT = SINCE + timedelta(seconds=30)
VERSIONS = ("12", "13")

REQUESTS = 'windlass_requests_total{model="flights",version=~"12|13"}'
SECONDS = 'windlass_request_seconds_bucket{model="flights",version=~"12|13"}'


class Model:
    """The scrapes of two servers, as Prometheus gives them."""

    def __init__(self, series: Any) -> None:
        self._series = series

    def responses(self, version: str, code: str, *values: Any, **labels: str) -> dict[str, Any]:
        labels = {"model": "flights", "version": version, "protocol": "v2", "code": code, **labels}
        return self._series("windlass_requests_total", *values, **{"instance": f"pod-{version}", **labels})

    def buckets(self, version: str, **of: list[Any]) -> list[dict[str, Any]]:
        """le with "_" for "." -> values."""
        return [
            self._series(
                "windlass_request_seconds_bucket",
                *values,
                instance=f"pod-{version}",
                model="flights",
                version=version,
                le=le.strip("_").replace("_", ".").replace("Inf", "+Inf"),
            )
            for le, values in of.items()
        ]

    def usual(self, at: float = T + 20) -> tuple[list[Any], list[Any]]:
        """Version 12: 90 answers, one failed; version 13: 10 answers, two failed."""
        before = T - 5
        responses = [
            self.responses("12", "200", (before, 1000), (at, 1089)),
            self.responses("12", "503", (at, 1)),
            self.responses("13", "200", (before, 0), (at, 8)),
            self.responses("13", "500", (at, 2)),
        ]
        durations = [
            *self.buckets(
                "12",
                _0_01=[(before, 600), (at, 640)],
                _0_05=[(before, 900), (at, 980)],
                _Inf=[(before, 1000), (at, 1090)],
            ),
            *self.buckets(
                "13", _0_01=[(before, 0), (at, 1)], _0_05=[(before, 0), (at, 9)], _Inf=[(before, 0), (at, 10)]
            ),
        ]
        return responses, durations


@pytest.fixture
def model(series: Any) -> Model:
    return Model(series)


def source(answering: Any, **more: Any) -> PrometheusSource:
    return PrometheusSource(Prometheus(answering.url, timeout_s=5.0), "flights", SINCE, **more)


def test_counts_are_exact(answering: Any, model: Model) -> None:
    """Verify requests, errors and latencies since the start, and the exact queries that gave them."""
    answering.gives(*model.usual())
    seen = source(answering, more={"namespace": "prod"}).evidence(VERSIONS, AT)
    assert seen.silent == {} and seen.faults == {} and seen.at == AT
    assert {v: (arm.requests, arm.errors) for v, arm in seen.arms.items()} == {"12": (90, 1), "13": (10, 2)}
    assert seen.arms["12"].latencies == Histogram((10.0, 50.0), (40, 40, 10))
    assert seen.arms["13"].latencies == Histogram((10.0, 50.0), (1, 8, 1))
    where = ',namespace="prod"}'
    assert answering.asked == [
        {"path": "/api/v1/query", "query": f"{query[:-1]}{where}[90000ms]", "time": f"{AT.timestamp():.3f}"}
        for query in (REQUESTS, SECONDS)
    ]


@pytest.mark.parametrize(
    ("listened", "counts"),
    [(True, {"12": 1008, "13": 10}), (False, {"12": 8, "13": 0})],
    ids=["listened", "was-down"],
)
def test_what_appears_later_is_new_where_prometheus_listened(
    answering: Any, model: Model, listened: bool, counts: dict[str, int]
) -> None:
    """Verify that servers which nobody knew at the start count in full only where somebody would have known them."""
    answering.listened = listened
    responses = [
        model.responses("12", "200", (T + 5, 1000), (T + 20, 1008)),
        model.responses("13", "200", (T + 20, 10)),
    ]
    answering.gives(responses)
    seen = source(answering, durations=False).evidence(VERSIONS, AT)
    assert {version: arm.requests for version, arm in seen.arms.items()} == counts
    (asked,) = answering.first
    assert asked["query"] == "count(last_over_time(up[60000ms]))" and asked["time"] == f"{T:.3f}"


def test_whether_prometheus_listened_is_asked_until_it_says(answering: Any, model: Model) -> None:
    """Verify that a Prometheus which is away at the first look is asked again at the next, and then no more."""
    answering.listened = None
    answering.answers = [(503, b"")]
    seen = source(answering)
    assert "503" in seen.evidence(VERSIONS, AT).silent["prometheus"]
    answering.answers = [(200, b"[]")]
    assert "is no Prometheus" in seen.evidence(VERSIONS, AT).faults["latencyP99"]
    answering.listened = True
    for _ in range(2):
        answering.gives(*model.usual())
        assert seen.evidence(VERSIONS, AT).arms["13"].requests == 10
    assert len(answering.first) == 1


def test_the_next_look_asks_for_what_is_new(answering: Any, model: Model) -> None:
    """Verify that the window is the time since the last look and the time that a sample may be late, and no more."""
    seen = source(answering)
    answering.gives(*model.usual())
    seen.evidence(VERSIONS, AT)
    answering.asked.clear()
    answering.gives([], [])
    later = seen.evidence(VERSIONS, AT + timedelta(seconds=10))
    assert [asked["query"] for asked in answering.asked] == [f"{REQUESTS}[70000ms]", f"{SECONDS}[70000ms]"]
    assert later.arms["12"].requests == 90 and later.silent == {}


def test_a_new_process_goes_on(answering: Any, model: Model) -> None:
    """Verify that with the state of the old source, and no other, nothing is counted twice or lost."""
    first = source(answering)
    answering.gives(*model.usual())
    first.evidence(VERSIONS, AT)
    state = json.loads(json.dumps(first.state()))
    at = T + 35
    answering.gives(
        [
            model.responses("12", "200", (T + 20, 1089), (at, 1100)),
            model.responses("13", "200", (T + 20, 8), (at, 3)),  # restarted: its 3 are new
            model.responses("13", "500", (T + 20, 2), (at, 1)),
        ],
        [],
    )
    seen = source(answering, state=state).evidence(VERSIONS, AT + timedelta(seconds=10))
    assert {v: (arm.requests, arm.errors) for v, arm in seen.arms.items()} == {"12": (101, 1), "13": (14, 3)}


def test_a_version_that_answered_nothing_yet_is_known_to(answering: Any, model: Model) -> None:
    """Verify that an empty histogram is a zero that was measured."""
    responses, durations = model.usual()
    zero = model.buckets("13", _0_01=[(T + 20, 0)], _0_05=[(T + 20, 0)], _Inf=[(T + 20, 0)])
    answering.gives(responses[:2], durations[:3] + zero)
    seen = source(answering).evidence(VERSIONS, AT)
    assert seen.silent == {} and seen.arms["13"].requests == 0
    assert seen.arms["13"].latencies == Histogram((10.0, 50.0), (0, 0, 0))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param((503, b'{"status":"error","error":"query queue is full"}'), "503: query queue is full", id="503"),
        pytest.param((500, b"<html>oops</html>"), "500: <html>oops", id="500-html"),
        pytest.param((422, b'{"status":"error","error":"query timed out"}'), "query timed out", id="timed-out"),
        pytest.param((401, b""), "answered 401", id="token"),
        pytest.param((200, b'{"status":"error","error":"no"}'), "failed: no", id="error-with-200"),
        pytest.param(
            (200, b'{"status":"success","warnings":["a store is away"],"data":{"resultType":"matrix","result":[]}}'),
            "answered in part: a store is away",
            id="partial",
        ),
    ],
)  # fmt: skip
def test_what_says_nothing_is_silent(
    answering: Any, model: Model, answer: tuple[int, bytes], words: str
) -> None:
    """Verify that the source is silent with the reason, and that what it counted before stands."""
    seen = source(answering)
    answering.gives(*model.usual())
    seen.evidence(VERSIONS, AT)
    answering.answers = [answer]
    later = seen.evidence(VERSIONS, AT + timedelta(seconds=10))
    assert words in later.silent["prometheus"] and later.faults == {}
    assert later.arms["13"].requests == 10
    answering.answers, answering.listened = [answer], None
    first = source(answering).evidence(VERSIONS, AT)
    assert words in first.silent["prometheus"] and first.arms == {}


def test_nobody_at_the_address_is_silent(answering: Any) -> None:
    """Verify that a refused connection is told with the address."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        answering.url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        seen = source(answering, name="prom").evidence(VERSIONS, AT)
    assert f"{answering.url} does not answer" in seen.silent["prom"] and seen.arms == {}


def test_a_server_that_hangs_is_silent(answering: Any) -> None:
    """Verify that a look ends in its time, asked once."""
    answering.hang = True
    # long enough for what is answered before it hangs
    prometheus = Prometheus(answering.url, timeout_s=2.0)
    seen = PrometheusSource(prometheus, "flights", SINCE).evidence(VERSIONS, AT)
    assert "does not answer" in seen.silent["prometheus"] and len(answering.asked) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"<html>login</html>", "is no Prometheus", id="html"),
        pytest.param(b"", "is no Prometheus", id="nothing"),
        pytest.param(b"[1]", "is no Prometheus", id="list"),
        pytest.param(
            b'{"status":"success","data":{"resultType":"vector","result":[]}}', "not a matrix", id="vector"
        ),
        pytest.param(
            b'{"status":"success","data":{"resultType":"matrix"}}', "no form of its own", id="no-result"
        ),
        pytest.param(
            b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1]]}]}}',
            "no form of its own",
            id="no-value",
        ),
        pytest.param(
            b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[]}]}}',
            "native histogram",
            id="native",
        ),
    ],
)
def test_what_cannot_be_an_answer_is_a_fault(answering: Any, body: bytes, words: str) -> None:
    """Verify that nonsense is a fault of every metric that was asked for, and counts nothing."""
    answering.answers = [(200, body)]
    seen = source(answering).evidence(VERSIONS, AT)
    assert set(seen.faults) == {"errorRate", *LATENCIES} and all(
        words in fault for fault in seen.faults.values()
    )
    assert seen.arms == {} and seen.silent == {}


def test_a_refused_query_is_a_fault(answering: Any) -> None:
    """Verify that a query which Prometheus cannot read is told with it."""
    answering.answers = [(400, b'{"status":"error","errorType":"bad_data","error":"parse error"}')]
    fault = source(answering).evidence(VERSIONS, AT).faults["errorRate"]
    assert "refuses the query windlass_requests_total{" in fault and "parse error" in fault


@pytest.mark.parametrize(
    ("value", "words"),
    [("NaN", "nan"), ("+Inf", "inf"), ("-3", "-3.0"), ("7.5", "7.5")],
    ids=["nan", "inf", "negative", "broken"],
)
def test_an_impossible_value_is_a_fault_of_its_metric(
    answering: Any, model: Model, value: str, words: str
) -> None:
    """Verify that the errors are at fault, that the latencies are not, and that nothing is counted as zero."""
    responses, durations = model.usual()
    responses[3]["values"][-1][1] = value
    answering.gives(responses, durations)
    seen = source(answering).evidence(VERSIONS, AT)
    assert list(seen.faults) == ["errorRate"] and f"is {words}, which is no count" in seen.faults["errorRate"]
    assert seen.arms["13"].latencies is not None and seen.arms["13"].latencies.n == 10


def test_a_counter_that_falls_is_a_fault(answering: Any, model: Model) -> None:
    """Verify that a series which decreases while its process goes on is named."""
    seen = source(answering)
    answering.gives(*model.usual())
    seen.evidence(VERSIONS, AT)
    responses = [model.responses("12", "200", (T + 35, 1200)), model.responses("12", "503", (T + 35, 0))]
    answering.gives(responses, [])
    fault = seen.evidence(VERSIONS, AT + timedelta(seconds=10)).faults["errorRate"]
    assert "went from 1 to 0 although its process did not begin anew" in fault


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda d: d[4]["values"].__setitem__(1, [T + 20, "0"]), "bucket 50 ms", id="falling"),
        pytest.param(lambda d: d.pop(), "no +Inf", id="no-inf"),
        pytest.param(
            lambda d: d.append(
                {"metric": {**d[4]["metric"], "instance": "pod-b"}, "values": [[T + 20, "1"]]}
            ),
            "different buckets",
            id="servers-differ",
        ),
    ],
)
def test_impossible_buckets_are_a_fault_of_latencies(
    answering: Any, model: Model, change: Any, words: str
) -> None:
    """Verify that a histogram which cannot be one is none, while the counts of errors stand."""
    responses, durations = model.usual()
    change(durations)
    answering.gives(responses, durations)
    seen = source(answering).evidence(VERSIONS, AT)
    assert set(seen.faults) == set(LATENCIES) and all(words in fault for fault in seen.faults.values())
    assert seen.arms["13"].latencies is None and seen.arms["13"].errors == 2


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        pytest.param(
            lambda r, d: ([], []),
            r"no series of windlass_requests_total for version 12 \(runtimeResponses",
            id="none",
        ),
        pytest.param(
            lambda r, d: (r[:2], d[:3]), "no series of windlass_requests_total for version 13", id="candidate"
        ),
        pytest.param(
            lambda r, d: (r[2:], d[3:]), "no series of windlass_requests_total for version 12", id="champion"
        ),
        pytest.param(
            lambda r, d: (r, []),
            "no series of windlass_request_seconds_bucket for version 12",
            id="durations",
        ),
        pytest.param(
            lambda r, d: ([], d), "no series of windlass_requests_total for version 12", id="responses"
        ),
    ],
)
def test_no_series_is_silence_and_never_zero(answering: Any, model: Model, keep: Any, words: str) -> None:
    """Verify that a metric or version that Prometheus does not know holds the release, with what to check."""
    import re

    answering.gives(*keep(*model.usual()))
    silent = source(answering).evidence(VERSIONS, AT).silent["prometheus"]
    assert re.search(words, silent) and "check that its servers are scraped" in silent


def test_old_samples_are_late(answering: Any, model: Model) -> None:
    """Verify that a version which is not scraped any more is late after the stated time, and no sooner."""
    seen = source(answering, scrape_interval_s=5.0, late_after=3.0)
    answering.gives(*model.usual(at=T + 20))
    assert seen.evidence(VERSIONS, SINCE + timedelta(seconds=35)).silent == {}
    fresh = [model.responses("12", "200", (T + 36, 1090))], [*model.buckets("12", _Inf=[(T + 36, 1091)])]
    answering.gives(*fresh)
    late = seen.evidence(VERSIONS, SINCE + timedelta(seconds=36))
    assert (
        "late: the newest sample of version 13 (runtimeResponses) is 16 s old, the limit is 15 s"
        in late.silent["prometheus"]
    )
    assert late.arms["13"].requests == 10


def test_latencies_need_not_be_asked_for(answering: Any, model: Model) -> None:
    """Verify that a release without a check of latencies is not held by metrics that it does not need."""
    answering.gives(model.usual()[0])
    seen = source(answering, durations=False).evidence(VERSIONS, AT)
    assert seen.silent == {} and seen.arms["13"].requests == 10 and seen.arms["13"].latencies is None
    assert len(answering.asked) == 1


def test_envoys_metrics_count_too(answering: Any, series: Any) -> None:
    """Verify the other set of queries: classes of statuses, and milliseconds."""

    def cluster(version: str, metric: str, value: int, **labels: str) -> Any:
        return series(metric, (T - 5, 0), (T + 20, value), envoy_cluster_name=f"flights@{version}", **labels)

    outcomes, bounds = {"2": 9, "5": 1}, {"25": 4, "+Inf": 10}
    responses, durations = "envoy_cluster_upstream_rq_xx", "envoy_cluster_upstream_rq_time_bucket"
    answering.gives(
        [
            cluster(v, responses, n, envoy_response_code_class=c)
            for v in VERSIONS
            for c, n in outcomes.items()
        ],
        [cluster(v, durations, n, le=le) for v in VERSIONS for le, n in bounds.items()],
    )
    seen = source(answering, queries=ENVOY).evidence(VERSIONS, AT)
    assert seen.silent == {} and seen.faults == {}
    assert (seen.arms["12"].requests, seen.arms["12"].errors) == (10, 1)
    assert seen.arms["13"].latencies == Histogram((25.0,), (4, 6))


def test_a_version_that_only_fails_is_not_silent(answering: Any, model: Model) -> None:
    """Verify that a candidate which no request reached is seen failing: Envoy has no durations of it."""
    responses, durations = model.usual()
    answering.gives([*responses[:2], model.responses("13", "503", (T - 5, 0), (T + 20, 4))], durations[:3])
    seen = source(answering).evidence(VERSIONS, AT)
    assert seen.silent == {} and seen.faults == {}
    arm = seen.arms["13"]
    assert (arm.requests, arm.errors, arm.latencies) == (4, 4, None)


def test_a_version_without_a_cluster_is_silent(answering: Any) -> None:
    """Verify that no query is asked which would match whatever has no such label."""
    seen = source(answering, queries=envoy_gateway({})).evidence(VERSIONS, AT)
    assert "nothing is called after them" in seen.silent["prometheus"] and answering.asked == []


def test_headers_are_sent(answering: Any) -> None:
    """Verify that a token reaches a Prometheus that wants one."""
    answering.gives([])
    Prometheus(f"{answering.url}/", headers={"Authorization": "Bearer t"}).samples("up[1s]", AT)
    assert answering.headers[0]["Authorization"] == "Bearer t"
    assert answering.asked[0]["path"] == "/api/v1/query"


def test_errors_of_the_client(answering: Any) -> None:
    """Verify that an address without a scheme is the caller's error, and that both kinds of silence are told apart."""
    with pytest.raises(UsageError, match="give an address like"):
        Prometheus("prometheus:9090")
    answering.answers = [(400, b"{}"), (502, b"")]
    client = Prometheus(answering.url)
    with pytest.raises(NonsenseError, match="refuses the query"):
        client.samples("x", AT)
    with pytest.raises(SilentError, match="502"):
        client.samples("x", AT)


@pytest.mark.parametrize(
    ("scrapes", "fails"),
    [
        ([("flights", 0, 0)], True),
        ([("flights", 0, 1)], False),
        ([("flights", 1, 1), ("flights", 0, 0)], True),
        ([("mesh", 0, 0)], False),
        ([], False),
    ],
    ids=["every-scrape", "one-scrape", "one-of-two-pods", "another-job", "nobody"],
)
def test_a_pod_at_which_scrapes_fail_is_seen(
    answering: Any, model: Model, series: Any, scrapes: list[tuple[str, int, int]], fails: bool
) -> None:
    """Verify that only scrapes of the job that counts requests matter."""
    answering.gives([model.responses("12", "200", (T + 20, 5), job="flights")])
    of = source(answering, durations=False, more={"namespace": "prod"})
    of.evidence(("12",), AT)
    answering.gives(
        [
            series("up", (T + 5, one), (T + 20, two), job=job, pod=f"flights-12-predictor-{n}")
            for n, (job, one, two) in enumerate(scrapes)
        ]
    )
    assert of.fails_at(("flights-12-predictor-",), AT) is fails
    assert answering.asked[-1]["query"] == 'up{pod=~"flights-12-predictor-.*",namespace="prod"}[60000ms]'
