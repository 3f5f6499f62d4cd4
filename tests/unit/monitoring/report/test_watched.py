"""What the page shows of analyses: each part stands whatever is missing, and says so."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from watched_stories import BAD, DAY, END, SUMMARY, analysis, figure

from monitoring.report.page import page
from monitoring.report.watched import headline, looks, parts
from monitoring.report.watched.looks import NAMES


def shown(name: str, analyses: list[dict[str, Any]], **series: Any) -> str:
    (content,) = (c for _, part, c in parts(SUMMARY, {"analyses": analyses, **series}) if part == name)
    return content


def plain(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup))


def test_there_are_no_such_parts_without_an_analysis() -> None:
    """Verify that the demo's page, and one of a platform that was never analysed, stay as they were."""
    assert parts(SUMMARY, {}) == [] and headline({}) is None
    assert 'id="verdicts"' not in page({}, [], {})


def test_the_page_answers_first_what_is_wrong() -> None:
    """Verify that the newest analysis is the headline, and that its parts come before what was gained."""
    text = page(SUMMARY, [], {"analyses": BAD})
    assert "<h1>Feature drift and data quality fail.</h1>" in text
    places = [
        text.index(f'id="{name}"')
        for name in ("verdicts", "performing", "slices", "moved", "budgets", "signals", "performance")
    ]
    assert places == sorted(places)
    assert 'id="drift"' not in text, "one map of drift is enough"


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        pytest.param({}, "All checks pass.", id="all-pass"),
        pytest.param({"skew": "FAIL"}, "Training/serving skew fails.", id="one-fails"),
        pytest.param(
            {"skew": "INCONCLUSIVE"}, "Nothing fails; 1 check of 10 could not be decided.", id="one-unknown"
        ),
        pytest.param(
            dict.fromkeys(NAMES, "INCONCLUSIVE"), "Nothing is known about it yet.", id="nothing-known"
        ),
    ],
)
def test_what_is_not_known_is_never_called_good(verdicts: dict[str, str], said: str) -> None:
    """Verify the sentence at the top, a row an outcome."""
    assert headline({"analyses": [analysis(0, **verdicts)]}) == said


def test_a_check_that_was_not_judged_is_inconclusive() -> None:
    """Verify that an analysis which knows no version passes nothing."""
    empty = {"end": END, "checks": [], "versions": []}
    assert headline({"analyses": [empty]}) == "Nothing is known about it yet."
    text = plain(shown("verdicts", [empty]))
    assert text.count("INCONCLUSIVE") == len(NAMES) and "PASS" not in text


def test_each_check_stands_with_its_reason_and_its_past() -> None:
    """Verify that verdict, reason and the windows before are there for each check, whatever their order."""
    text = shown("verdicts", [BAD[2], BAD[0], BAD[1]])
    for name in NAMES:
        assert f"<h3>{NAMES[name]}</h3>" in text
        assert f"why {name} is" in text
    assert "Feature drift over time: 2 PASS, 1 FAIL" in text
    assert '<i class="good" data-t="Feature drift, 1 Mar 2026 00:00: PASS"></i>' in text


def test_a_failed_attempt_is_said() -> None:
    """Verify that nobody takes an old verdict for a new one."""
    status = {"error": "WindlassError: disk full", "attempt": END + 5 * DAY}
    text = plain(shown("verdicts", BAD, analysis_status=status))
    assert (
        "The last attempt at 6 Mar 2026 00:00 failed, so what stands here is old: WindlassError: disk full"
        in text
    )


def test_measured_stands_beside_estimated() -> None:
    """Verify that an unmeasured window is a gap in the numbers, not a zero, and which way is better."""
    text = shown("performing", BAD)
    assert "Measured last: 0.740, at its evaluation 0.770." in text
    assert "More is better" in text and "Less is better" in text
    row = re.search(r"<td>1 Mar 2026 00:00</td>(.*?)</tr>", text)
    assert row and plain(row[1]).split()[0] == "–"
    unmeasured = copy.deepcopy(BAD[:1])
    unmeasured[0]["versions"][0]["performance"] = [figure("auc", "baseline", 0.77)]
    assert "Nothing is measured yet: no labels have matured." in shown("performing", unmeasured)


def test_drift_is_drawn_by_its_evidence() -> None:
    """Verify that what rings is dark, what does not is pale, and what was not judged stays empty."""
    text = shown("moved", BAD)
    wide = re.search(r'<svg[^>]*class="wide".*?</svg>', text, re.S)
    assert wide
    cells = re.findall(r'<rect class="(c\d)"[^>]*data-t="([^"]+)"', wide[0])
    tones = {tip.split(":")[0]: tone for tone, tip in cells}
    assert tones["distance, 1 Mar 2026"] == "c0" and tones["distance, 3 Mar 2026"] == "c4"
    assert not any(tip.startswith("empty") for tip in tones)
    assert "1 column of 2 ring now" in plain(text)
    assert "held to 0.25 a month over everything: noise was learned" in plain(text)


def test_what_is_broken_is_named_in_words() -> None:
    """Verify that a column says what is wrong with it and since when, a fault of the form too."""
    text = plain(shown("moved", BAD))
    assert "distance values are of another magnitude 1.6 × 1 × 1 Mar 2026" in text
    assert "delay values are missing 21.0% 0.0% –" in text
    assert "carrier categories that training never saw – – 3 Mar 2026" in text
    assert "Nothing is broken in 2 columns." in plain(shown("moved", BAD[:2]))


def test_slices_are_ranked_with_their_evidence() -> None:
    """Verify that the page says how many were asked, and shows the loss then and now."""
    text = plain(shown("slices", BAD))
    assert "200 slices of the requests were asked" in text
    assert "origin=EWR 0.180 at its evaluation, 0.310 now 0.180 0.310 0.120 (at least 0.060) 212" in text
    assert "carrier=B6" in text


def test_budgets_tell_overspent_from_unknown() -> None:
    """Verify that a budget that nobody counted is not shown as full."""
    text = shown("budgets", BAD)
    assert "overspent by 17%" in text and "width:0.0%" in text
    assert "not known: nothing was counted" in text
    assert "1.9 s of CPU for a thousand requests and 300 MB of memory at most" in text
    assert re.search(r"Availability 0.5 6 Latency – –", plain(text))


def test_signals_stand_in_lanes_with_what_became_of_them() -> None:
    """Verify that a started retraining and a signal that was held back are told apart, newest first in the table."""
    text = shown("signals", BAD)
    assert text.count('<path class="mark"') == 2 and text.count('<path class="mark hollow"') == 2
    assert "2 decisions about signals, 1 retraining started" in text
    assert plain(text).index("repair the source") < plain(text).rindex("nothing holds it back")
    none = parts({}, {"analyses": BAD})
    assert "No signal was ever sent" in next(c for _, name, c in none if name == "signals")


def test_odd_documents_leave_the_page_standing() -> None:
    """Verify that no missing or odd part of a document breaks the page."""
    for wrong in (None, 5, "text", [], {}):
        for key in ("checks", "versions"):
            text = page(SUMMARY, [], {"analyses": [{**BAD[2], key: wrong}]})
            assert text.endswith("</html>\n")
        for key in ("checks", "detection", "faults", "performance", "slices"):
            document = copy.deepcopy(BAD[2])
            document["versions"][0][key] = wrong
            assert page(SUMMARY, [], {"analyses": [document], "analysis_status": wrong}).endswith("</html>\n")
    assert looks({"analyses": [{"end": "never"}, {}]}) == []


HOSTILE = "</td></script><img src=x onerror=alert(1)>"


def test_hostile_names_stay_text() -> None:
    """Verify that a column, slice, version or reason cannot become markup."""

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: poisoned(v) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(v) for v in value]
        return HOSTILE + value if isinstance(value, str) and value not in NAMES else value

    text = page(SUMMARY, [], {"analyses": poisoned(BAD), "analysis_status": {"error": HOSTILE}})
    assert "<img" not in text and "&lt;img" in text
    assert text.count("</script>") == 1


def test_every_plot_has_its_own_name() -> None:
    """Verify that names of plots, which a screen reader needs, are there and unique on the page."""
    text = page(SUMMARY, [], {"analyses": BAD})
    plots = re.findall(r"<svg[^>]*(?:wide|narrow).*?</svg>", text, re.S)
    assert len(plots) == 2 * 4  # AUC, Brier, the map, the signals: each for a desk and for a phone
    names = re.findall(r'<(?:title|desc) id="([^"]+)"', text)
    assert len(names) == len(set(names)) == 2 * len(plots)
    for plot in plots:
        width = float(re.search(r'viewBox="0 0 (\d+)', plot)[1])  # type: ignore[index]
        for attributes, content in re.findall(r"<text ([^>]*)>([^<]*)</text>", plot):
            found = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
            length = 7.0 * len(content)
            x = float(found["x"]) - {"end": length, "middle": length / 2}.get(
                found.get("text-anchor", ""), 0.0
            )
            assert x >= -6 and x + length <= width + 6, (content, found)
