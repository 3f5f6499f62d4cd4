"""The page of one release: self-contained, with its journal inside, safe with any string, whatever is missing."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from release_stories import STORIES

from monitoring.report.one_release import EmbeddedError, extract, page, render
from serving.release.people import account, dossier
from tests.support.html_page import HOSTILE, Reader


@pytest.fixture(scope="module")
def dossiers(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The dossier of every story."""
    directory = tmp_path_factory.mktemp("stories")
    found = {}
    for name, tell in STORIES.items():
        tell(directory / name)
        found[name] = dossier.dossier(account.find(directory / name, "flights"))
    return found


@pytest.mark.parametrize("story", STORIES)
def test_it_is_one_small_file_that_loads_nothing(dossiers, story, tmp_path):
    """Verify that nothing on the page asks for anything, and that its markup is balanced."""
    out = tmp_path / "page.html"
    render(dossiers[story], out)
    text = out.read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"https?://|@import|url\(", text)
    reader = Reader(text)
    assert reader.unbalanced == [] and reader.open == []
    loads = {"src", "srcset", "action", "data", "poster", "background", "formaction"}
    for tag, attributes in reader.tags:
        assert not loads & attributes.keys(), (tag, attributes)
        assert attributes.get("href") in (None, "data:,")
    assert "default-src 'none'" in text


@pytest.mark.parametrize("story", STORIES)
def test_the_journal_comes_back_as_it_was(dossiers, story):
    """Verify that the page alone holds every record, and that the same release gives the same page."""
    text = page(dossiers[story])
    assert extract(text) == dossiers[story]["journal"]
    assert page(copy.deepcopy(dossiers[story])) == text


@pytest.mark.parametrize(
    ("story", "words"),
    [
        pytest.param("canary", ("Version 13 was promoted in place of 12", "No single check decided"), id="canary"),
        pytest.param("failing", ("Version 13 was rolled back after 5m", "16,215 to 1", "errors, a guardrail",
                                 "Alerts, repairs and failed acts"), id="rolled-back"),
        pytest.param("unseen", ("ended without a verdict", "no line for 5m", "no estimate at"), id="no-evidence"),
        pytest.param("experiment", ("Rewards at the end", "Rewards by period of first exposure", "p-value", "novelty"),
                     id="experiment"),
        pytest.param("bandit", ("What each version would have earned", "equal split", "SNIPS"), id="bandit"),
    ],
)  # fmt: skip
def test_the_answer_and_its_evidence_are_on_the_page(dossiers, story, words):
    """Verify what each kind of release must show."""
    shown = Reader(page(dossiers[story])).text
    for word in words:
        assert word in shown


def test_each_check_has_its_sequence_with_threshold_and_decision(dossiers):
    """Verify a band, a threshold and a line at the deciding look, in both widths."""
    text = page(dossiers["experiment"])
    drawn = [
        c for c in dossiers["experiment"]["checks"] if any(v["estimate"] is not None for v in c["verdicts"])
    ]
    assert text.count('class="band"') == 2 * len(drawn)
    assert text.count('class="bound"') == 2 * len(drawn)
    assert text.count('class="decided good"') == 2
    assert 'class="decided' not in page(dossiers["canary"])


def test_versions_that_failed_are_shown_so(dossiers):
    """Verify the colour of a rolled back candidate's traffic."""
    assert 'class="area bad"' in page(dossiers["failing"])
    assert 'class="area bad"' not in page(dossiers["canary"])


def test_any_string_is_only_text(dossiers):
    """Verify that a hostile reason, name or version reaches the page as text and the journal unharmed."""
    told = copy.deepcopy(dossiers["failing"])
    told |= {"release": HOSTILE, "headline": HOSTILE, "reason": HOSTILE, "champion": HOSTILE}
    told["decisions"][0]["reason"] = HOSTILE
    told["journal"][0]["document"]["metadata"]["name"] = HOSTILE
    text = page(told)
    reader = Reader(text)
    assert "<img" not in text and reader.unbalanced == []
    assert [tag for tag, _ in reader.tags].count("script") == 2
    assert extract(text)[0]["document"]["metadata"]["name"] == HOSTILE


@pytest.mark.parametrize("story", ["failing", "experiment", "bandit"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_page_stands_whatever_is_missing_or_odd(dossiers, story, data):
    """Verify that a part that is absent or of another kind never breaks the rest."""
    told = dict(dossiers[story])
    odd = st.sampled_from([None, [], {}, "x", 3, [None], [{}], {"a": None}])
    for key in data.draw(st.sets(st.sampled_from(sorted(told)), max_size=4)):
        told[key] = data.draw(odd)
    reader = Reader(page(told))
    assert reader.unbalanced == [] and reader.open == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param(lambda text: "<p>nothing</p>", "no script element", id="another-page"),
        pytest.param(lambda text: re.sub(r'"data": "[^"]{20}', '"data": "', text), "damaged", id="cut-data"),
        pytest.param(
            lambda text: text.replace('"records": 5', '"records": 6'), "5 of 6 records", id="lost-records"
        ),
    ],
)
def test_a_damaged_journal_is_named(dossiers, edit, message):
    """Verify that nothing is decided again from half a journal."""
    with pytest.raises(EmbeddedError, match=message):
        extract(edit(page(dossiers["failing"])))
