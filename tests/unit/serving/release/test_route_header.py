"""Why a request went where it went, as the header says it and as it is read back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.release import route_header

#: what Envoy Gateway takes as the value of a header that a filter sets
TAKEN = re.compile(r"[!-~]+([\t ]?[!-~]+)*")


@pytest.mark.parametrize("kind", ["weights", "arm", "unassigned", "match"])
def test_a_kind_is_read_as_itself(kind: str) -> None:
    assert route_header.read(kind) == (kind, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("mobile", "segment/mobile", id="plain"),
        pytest.param("US/CA:1.0", "segment/US/CA:1.0", id="plain-marks"),
        pytest.param("100%", "segment/100=25", id="a-command-to-Envoy"),
        pytest.param("a  b", "segment/a=20=20b", id="two-blanks"),
        pytest.param("a=b", "segment/a=3Db", id="the-mark-itself"),
    ],
)
def test_a_value_is_written_so_that_every_proxy_takes_it(value: str, text: str) -> None:
    assert route_header.segment(value) == text
    assert route_header.read(text) == ("segment", value)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1))
def test_every_value_that_a_header_carries_comes_back(value: str) -> None:
    text = route_header.segment(value)
    assert TAKEN.fullmatch(text)
    assert "%" not in text
    assert route_header.read(text) == ("segment", value)


@pytest.mark.parametrize(
    "text", ["", "version", "arm ", "segment/100%", "segment/=zz", "segment/a=2", "segment/=41"]
)
def test_what_no_route_of_ours_says_is_nothing(text: str) -> None:
    assert route_header.read(text) is None
