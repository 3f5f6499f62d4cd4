"""What a record says of an answer that left before its features were looked up."""

from __future__ import annotations

import orjson
import pytest

from serving.runtime import records
from serving.runtime.contract import Contract
from serving.runtime.engines.engine import TensorSpec
from serving.runtime.features.ladder import Features
from serving.runtime.flow.call import AnsweredBy, Asked, Call, Outcome
from serving.runtime.signature import Row

CONTRACT = Contract("m", "3", None, (), (TensorSpec("score", "FP64", (-1,)),), "onnx")


@pytest.mark.parametrize(
    ("features", "vectors", "by", "source"),
    [
        (None, None, "static", "none"),
        # read, and the request's time ran out before they became a vector
        ([Features([1.0], "cached")] * 2, None, "static", "none"),
        ([Features([1.0], "cached"), Features([2.0], "online")], [[1.0, 0.5], [2.0, 0.5]], "model", "cached"),
    ],
)
def test_who_used_no_features_names_no_source(
    features: list[Features] | None, vectors: list[list[float]] | None, by: AnsweredBy, source: str
) -> None:
    asked = Asked(2, rows=[Row({"shop": "s1"}, {"size": 0.5}, [0.5])] * 2)
    call = Call(asked, "q", 1.0, 2.0, 0.0, lambda call: None, features=features, vectors=vectors)
    call.outcome = Outcome([[0.25, 0.75]], by, None)
    lines = [orjson.loads(line) for line in records.lines(call, CONTRACT, 0.001).splitlines()]
    assert [line["source"] for line in lines] == [source, "none" if source == "none" else "online"]
    assert [line["features"] for line in lines] == (vectors or [[], []])
    assert {line["answered_by"] for line in lines} == {by}
