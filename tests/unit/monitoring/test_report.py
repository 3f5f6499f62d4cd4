"""The report page: self-contained, safe with any string, and standing whatever is missing."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.report import render
from monitoring.report.page import page
from tests.support.html_page import HOSTILE, Reader

PLOTS = (
    "AUC by month",
    "Drift by feature",
    "Traffic by version",
    "Latency by day",
    "Distribution of latency",
)


def written(story: Any, tmp_path: Path) -> str:
    out = tmp_path / "report.html"
    render(story.summary, story.decisions, story.series, out)
    return out.read_text()


def test_it_is_one_small_file_that_loads_nothing(story: Any, tmp_path: Path) -> None:
    text = written(story, tmp_path)
    assert len(text.encode()) < 4_000_000
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
    loads = {"src", "srcset", "action", "data", "poster", "xlink:href", "background", "formaction"}
    for tag, attributes in Reader(text).tags:
        assert not loads & attributes.keys(), (tag, attributes)
        assert attributes.get("href") in (None, "data:,")
        assert not any(name.startswith("on") for name in attributes)
    assert "default-src 'none'" in text


def test_every_part_is_there_and_the_markup_is_balanced(story: Any, tmp_path: Path) -> None:
    text = written(story, tmp_path)
    reader = Reader(text)
    assert reader.unbalanced == [] and reader.open == []
    shown = " ".join(reader.data)
    for title in (
        *PLOTS,
        "Version 3",
        "Versions",
        "Signals and triggers",
        "Releases",
        "Rollbacks",
        "Decisions",
    ):
        assert title in shown
    assert "above the one it started as" in shown
    assert "2 of 2 sabotaged candidates caught" in shown
    assert "no data" not in shown


def test_every_plot_has_a_name_a_description_and_its_numbers(story: Any, tmp_path: Path) -> None:
    text = written(story, tmp_path)
    plots = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(plots) == 2 * (len(PLOTS) + 7 * 4), "each is drawn for a desk and for a phone"
    for plot in plots:
        assert re.search(r"<title [^>]*>[^<]+</title><desc [^>]*>[^<]+</desc>", plot)
        assert 'role="img"' in plot and "aria-labelledby" in plot
    names = re.findall(r'<(?:title|desc) id="([^"]+)"', text)
    assert len(names) == len(set(names)) == 2 * len(plots)
    for figure in re.findall(r"<figure>.*?</figure>", text, re.S):
        assert "<table>" in figure


def test_no_label_of_a_plot_lies_outside_of_it(story: Any, tmp_path: Path) -> None:
    for plot in re.findall(r"<svg.*?</svg>", written(story, tmp_path), re.S):
        box = re.search(r'viewBox="0 0 (\d+) (\d+)"', plot)
        assert box
        width, height = map(int, box.groups())
        for attributes, content in re.findall(r"<text ([^>]*)>([^<]*)</text>", plot):
            found = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
            length = 7.0 * len(content)
            x = float(found["x"]) - {"end": length, "middle": length / 2}.get(
                found.get("text-anchor", ""), 0.0
            )
            assert x >= -6 and x + length <= width + 6, (content, found)
            assert 0 < float(found["y"]) <= height, (content, found)


def test_hostile_strings_stay_text_wherever_they_come(story: Any, tmp_path: Path) -> None:
    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: poisoned(v) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(v) for v in value]
        if isinstance(value, str) and not re.match(r"\d{4}-\d\d", value):
            return HOSTILE + value
        return value

    bad = copy.deepcopy(story)
    series = poisoned(bad.series)
    for change in series["weights"]:
        change["weights"] = {HOSTILE + v: s for v, s in change["weights"].items()}
    text = page(poisoned(bad.summary), poisoned(bad.decisions), series)
    reader = Reader(text)
    assert [tag for tag, _ in reader.tags if tag in ("img", "script")] == ["script"]
    assert reader.unbalanced == []
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert any(HOSTILE in piece for piece in reader.data)


@pytest.mark.parametrize("missing", ["summary", "decisions", "series", "everything"])
def test_a_missing_part_says_so(story: Any, missing: str) -> None:
    every = missing == "everything"
    text = page(
        {} if every or missing == "summary" else story.summary,
        [] if every or missing == "decisions" else story.decisions,
        {} if every or missing == "series" else story.series,
    )
    reader = Reader(text)
    assert reader.unbalanced == []
    assert "no data" in " ".join(reader.data)


@pytest.mark.parametrize("part", ["drift", "weights", "confidence", "latency", "lineage"])
def test_one_series_may_be_missing_or_hold_one_point(story: Any, part: str) -> None:
    lonely = {"by_day": story.series["latency"]["by_day"][:1], "histogram": [{"le": 1, "count": 3}]}
    first = lonely if part == "latency" else story.series[part][:1]
    for changed in (None, first):
        assert Reader(page(story.summary, [], {part: changed})).unbalanced == []


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["2013-02", "2013-02-01T06:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
rows = st.lists(
    st.dictionaries(
        st.sampled_from(
            [
                "at",
                "month",
                "day",
                "feature",
                "score",
                "weights",
                "release",
                "check",
                "n",
                "estimate",
                "le",
                "count",
                "version",
            ]
        ),
        junk,
        max_size=6,
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("months", "triggers", "releases", "versions", "latency_ms"), junk | rows)
    ),
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("drift", "weights", "confidence", "latency", "lineage"), junk | rows)
    ),
)
def test_no_input_breaks_the_page(summary: dict[str, Any], series: dict[str, Any]) -> None:
    assert Reader(page(summary, [], series)).unbalanced == []


def test_much_more_than_a_year_stays_small(story: Any) -> None:
    many = copy.deepcopy(story.series)
    many["drift"] = [
        {"at": 1.36e9 + 3600 * hour, "feature": f"feature_{f}", "score": 0.01 * f, "threshold": 0.1}
        for hour in range(1500) for f in range(60)
    ]  # fmt: skip
    many["weights"] = [
        {"at": 1.36e9 + 60 * i, "weights": {"1": i % 100, "2": 100 - i % 100}} for i in range(20_000)
    ]
    many["confidence"] = [
        {"release": str(r), "check": c, "n": n, "estimate": 1 / n, "lower": 0.0, "upper": 2 / n, "bound": 0.1}
        for r in range(12) for c in ("errors", "p99", "skew", "brier") for n in range(1, 500)
    ]  # fmt: skip
    text = page(story.summary, story.decisions * 20, many)
    assert len(text.encode()) < 4_000_000


def test_the_gain_is_shown_with_its_cause(story: Any) -> None:
    text = page(story.summary, [], {})
    found = re.search(
        r"live (0\.\d+), frozen first model (0\.\d+) \(\+(0\.\d+)\).*?window as small as the first one: (0\.\d+)",
        text,
    )
    assert found
    months = story.summary["months"][-6:]
    weight = sum(m["rows"] for m in months)
    for value, field in zip(
        (found[1], found[2], found[4]), ("auc_live", "auc_frozen", "auc_control"), strict=True
    ):
        assert float(value) == pytest.approx(sum(m[field] * m["rows"] for m in months) / weight, abs=6e-4)


def test_a_worse_model_is_not_praised(story: Any) -> None:
    summary = copy.deepcopy(story.summary)
    for month in summary["months"]:
        month["auc_live"], month["auc_frozen"] = month["auc_frozen"], month["auc_live"]
    assert "below the one it started as" in page(summary, [], {})
