"""The pure analysis: what is unknown is INCONCLUSIVE and never good, what is injected is found."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis_home import CATEGORIES, answers, write_bundle
from real_flights import Flights, flights

from monitoring.analysis import analysis, bundle
from monitoring.analysis.analysis import Analysis
from monitoring.analysis.bundle import Trained
from monitoring.analysis.check import Check
from monitoring.analysis.inputs import AnalysisPolicy, Inputs, SkewSample, VersionInputs
from monitoring.collector.reading import StoredWindow
from monitoring.columns import Floats
from monitoring.verdict import Verdict
from workloads.flights.workload import WORKLOAD

CUT, END = "2013-05-25", "2013-06-01"
LAST = datetime(2013, 6, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def year() -> Flights:
    return flights(CUT)


@pytest.fixture(scope="module")
def trained(year: Flights, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder: Path = write_bundle(tmp_path_factory.mktemp("home"), year, "2013-01-01", CUT, END)
    found = bundle.read(folder)
    assert found.problems == ()
    return found


def of(
    year: Flights,
    trained: Trained | None,
    rows: StoredWindow,
    *,
    skew: SkewSample | None = None,
    end: datetime = LAST,
) -> Inputs:
    moment = end.timestamp()
    start = moment - AnalysisPolicy().span.total_seconds()
    recent = rows.at > start
    from monitoring.analysis.traffic import take

    known = VersionInputs(
        version="1",
        window=take(rows, recent),
        history=rows,
        rows=int(recent.sum()),
        evaluation=None if trained is None else trained.evaluation,
        baseline=None if trained is None else trained.baseline,
        nothing="the bundle is gone" if trained is None else "",
        skew=skew,
    )
    versions = (known,) if len(rows) else ()
    return Inputs(WORKLOAD, start, moment, moment, rows.at, versions, {})


def verdicts(found: Analysis) -> dict[str, str]:
    checks = [*found.checks, *(found.versions[0].checks if found.versions else ())]
    return {c.name: c.verdict for c in checks}


def injected(year: Flights, column: str, since: str, change: Any) -> Floats:
    """The inputs with one column changed from a day on."""
    inputs = year.inputs.copy()
    rows = year.between(since, "2014-01-01")
    i = year.names.index(column)
    inputs[rows, i] = change(inputs[rows, i])
    return inputs


def test_without_an_answer_nothing_is_judged_and_nothing_is_good(year: Flights) -> None:
    found = analysis.analyse(of(year, None, answers(year, np.zeros(len(year.at), bool))))
    assert set(verdicts(found).values()) == {"INCONCLUSIVE"}
    assert found.champion is None


def test_without_a_bundle_whatever_needs_it_is_inconclusive(year: Flights) -> None:
    found = analysis.analyse(of(year, None, answers(year, year.between(END, "2013-06-22"))))
    known = verdicts(found)
    needing = ("featureDrift", "predictionDrift", "labelDrift", "performanceDecay", "estimatedDecay", "skew")
    assert {known[name] for name in needing} == {"INCONCLUSIVE"}
    assert known["dataQuality"] == "INCONCLUSIVE"
    assert known["freshness"] == "PASS"
    assert found.versions[0].check("featureDrift").reason == "the bundle is gone"


def test_what_was_judged_before_says_nothing_of_another_models_events(
    year: Flights, trained: Trained, quiet: Analysis
) -> None:
    """Verify that the last judgement does not stand in for rows that cannot be judged."""
    inputs = of(year, trained, answers(year, year.between(END, "2013-06-22")))
    known = replace(inputs.versions[0], memory=quiet.versions[0].memory, nothing="of another model")
    found = analysis.analyse(replace(inputs, versions=(known,)))
    assert known.memory.detection is not None and found.versions[0].detection is None
    told = {n: found.versions[0].check(n) for n in ("featureDrift", "predictionDrift", "dataQuality")}
    assert {(c.verdict, c.reason) for c in told.values()} == {("INCONCLUSIVE", "of another model")}


@pytest.mark.parametrize(
    ("sequential", "measured", "tests", "expected"),
    [
        pytest.param("FAIL", "PASS", [{}], "FAIL", id="the-alarm-rings"),
        pytest.param("PASS", "INCONCLUSIVE", [{}], "PASS", id="silent-over-enough-rows"),
        pytest.param("PASS", "INCONCLUSIVE", [], "INCONCLUSIVE", id="silent-over-too-few-rows"),
        pytest.param("PASS", "FAIL", [{}], "INCONCLUSIVE", id="silent-and-the-newest-rows-say-otherwise"),
        pytest.param("INCONCLUSIVE", "FAIL", [{}], "INCONCLUSIVE", id="no-alarm-without-the-sequential-test"),
    ],
)
def test_decay_is_alarmed_by_one_test_and_passed_by_both(
    sequential: Verdict, measured: Verdict, tests: list[Any], expected: Verdict
) -> None:
    newest = Check("performanceDecay", measured, "b", {"tests": tests})
    found = analysis._decay(Check("performanceDecay", sequential, "a"), newest, None)
    assert (found.verdict, found.reason) == (expected, "a; b")


@pytest.fixture(scope="module")
def quiet(year: Flights, trained: Trained) -> Analysis:
    return analysis.analyse(of(year, trained, answers(year, year.between(END, "2013-06-22"))))


def test_three_weeks_of_real_flights_break_nothing(quiet: Analysis) -> None:
    """Verify that no alarm that may retrain rings although June is not May."""
    known = verdicts(quiet)
    assert "FAIL" not in {
        known[n] for n in ("featureDrift", "predictionDrift", "dataQuality", "performanceDecay")
    }
    assert known["dataQuality"] == "PASS"
    figures = {(f.metric, f.kind): f for f in quiet.versions[0].figures}
    assert {kind for _, kind in figures} == {"baseline", "measured", "estimated"}
    measured, estimate = figures[("auc", "measured")], figures[("auc", "estimated")]
    assert estimate.lower is not None
    assert estimate.upper is not None
    assert estimate.lower < measured.value < estimate.upper
    assert quiet.versions[0].label_coverage == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize(
    ("column", "change", "check", "fault"),
    [
        pytest.param(
            "weather_temp", lambda x: np.where(np.arange(len(x)) % 5 == 0, np.nan, x), "dataQuality",
            ("weather_temp", "nulls"), id="a-fifth-is-missing",
        ),
        pytest.param(
            "distance", lambda x: x * 1.609344 * 1000, "dataQuality", ("distance", "range"), id="miles-become-metres"
        ),
        pytest.param(
            "origin_departures_24h_count", lambda x: x + 3 * np.nanstd(x), "featureDrift", None, id="three-sd"
        ),
    ],
)  # fmt: skip
def test_what_is_injected_fails_in_its_own_check(
    year: Flights,
    trained: Trained,
    column: str,
    change: Any,
    check: str,
    fault: tuple[str, str] | None,
) -> None:
    inputs = injected(year, column, "2013-06-08", change)
    rows = answers(year, year.between(END, "2013-06-22"), inputs)
    found = analysis.analyse(of(year, trained, rows))
    assert verdicts(found)[check] == "FAIL"
    assert column in found.versions[0].check(check).reason
    if fault is not None:
        assert fault in found.versions[0].faults


def test_a_new_category_that_the_vector_hides_fails_data_quality(year: Flights, trained: Trained) -> None:
    rows = answers(year, year.between(END, "2013-06-22"))
    carriers = rows.columns["request.carrier"].copy()
    carriers[::12] = "ZZ"
    found = analysis.analyse(
        of(year, trained, replace(rows, columns={**rows.columns, "request.carrier": carriers}))
    )
    assert verdicts(found)["dataQuality"] == "FAIL"
    assert ("carrier", "category") in found.versions[0].faults


def test_labels_that_stop_make_decay_unknown(year: Flights, trained: Trained) -> None:
    """Verify a label outage: missing labels are no good performance."""
    rows = answers(year, year.between(END, "2013-06-22"))
    late = rows.at > datetime(2013, 6, 10, tzinfo=UTC).timestamp()
    silent = replace(
        rows,
        labels=np.where(late, np.nan, rows.labels),
        label_at=np.where(late, np.nan, rows.label_at),
    )
    found = analysis.analyse(of(year, trained, silent)).versions[0]
    assert found.label_coverage == 0.0
    assert found.check("performanceDecay").verdict == "INCONCLUSIVE"
    assert found.check("labelDrift").verdict != "FAIL"


def test_a_bad_carrier_is_the_first_slice(year: Flights, trained: Trained) -> None:
    rows = answers(year, year.between(END, "2013-07-01"))
    bad = rows.features[:, year.names.index("carrier")] == CATEGORIES["carrier"].index("UA")
    turned = replace(rows, labels=np.where(bad, 1 - rows.labels, rows.labels))
    end = datetime(2013, 7, 1, tzinfo=UTC)
    policy = AnalysisPolicy()
    found = analysis.analyse(of(year, trained, turned, end=end), policy).versions[0].slices
    assert [s.name for s in found.worse][:1] == ["carrier=UA"]
    assert analysis.analyse(of(year, trained, rows, end=end), policy).versions[0].slices.worse == ()


@pytest.mark.parametrize(
    ("sample", "verdict"),
    [
        pytest.param(SkewSample(500, 0, {}), "PASS", id="all-alike"),
        pytest.param(SkewSample(500, 50, {"delay": 50}), "FAIL", id="a-tenth-differs"),
        pytest.param(SkewSample(500, 8, {"delay": 8}), "INCONCLUSIVE", id="a-few-more-than-allowed"),
        pytest.param(SkewSample(20, 20, {"delay": 20}), "INCONCLUSIVE", id="too-few-compared"),
        pytest.param(SkewSample(0, 0, {}, "no offline rows"), "INCONCLUSIVE", id="nothing-to-compare-with"),
        pytest.param(None, "INCONCLUSIVE", id="nobody-compared"),
    ],
)
def test_skew_is_judged_by_the_share_of_vectors_that_differ(
    year: Flights, sample: SkewSample | None, verdict: str
) -> None:
    rows = answers(year, year.between("2013-06-20", "2013-06-22"))
    found = analysis.analyse(of(year, None, rows, skew=sample)).versions[0].check("skew")
    assert found.verdict == verdict
    assert sample is None or sample.reason in found.reason


def test_the_document_is_json_without_nan(quiet: Analysis) -> None:
    text = json.dumps(analysis.document(quiet, now=LAST), allow_nan=False)
    found = json.loads(text)
    assert (found["from"], found["to"]) == ("2013-06-15T00:00:00+00:00", "2013-06-22T00:00:00+00:00")
    assert found["champion"] == "1"
