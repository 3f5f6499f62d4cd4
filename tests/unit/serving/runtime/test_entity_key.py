"""Entity keys and values are Feast's, byte by byte; a change of Feast's layout fails here."""

from __future__ import annotations

import contextlib
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.runtime.features import entity_key, value
from serving.runtime.features.redis_hash import field_name, murmur3_32
from windlass.features import feast_import

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
NO_TIME = -(1 << 63)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
KEY = st.one_of(
    TEXT.map(lambda v: ("string", v)), INT64.map(lambda v: ("int64", v)), INT32.map(lambda v: ("int32", v))
)


@pytest.fixture(autouse=True, scope="module")
def _feast() -> None:
    feast_import.load()


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXT, KEY, min_size=1, max_size=3))
def test_keys_are_the_bytes_that_feast_writes(keys: dict[str, tuple[str, str | int]]) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    theirs = serialize_entity_key(
        EntityKey(
            join_keys=list(keys),
            entity_values=[Value(**{f"{kind}_val": content}) for kind, content in keys.values()],
        ),
        entity_key_serialization_version=3,
    )
    ours = entity_key.serialize([(name, kind, str(content)) for name, (kind, content) in keys.items()])
    assert ours == theirs
    if len(keys) == 1:
        [(name, (kind, content))] = keys.items()
        assert entity_key.serializer(name, kind)(str(content)) == theirs


def test_an_integer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit int32"):
        entity_key.serialize([("seat", "int32", str(1 << 31))])


SCALARS = st.one_of(
    TEXT.map(lambda v: ("string_val", v)),
    st.binary(max_size=40).map(lambda v: ("bytes_val", v)),
    INT64.map(lambda v: ("int64_val", v)),
    INT32.map(lambda v: ("int32_val", v)),
    INT64.filter(lambda v: v != NO_TIME).map(lambda v: ("unix_timestamp_val", v)),
    st.floats().map(lambda v: ("double_val", v)),
    st.floats(width=32).map(lambda v: ("float_val", v)),
    st.booleans().map(lambda v: ("bool_val", v)),
)


@settings(max_examples=300, deadline=None)
@given(SCALARS)
def test_values_decode_as_protobuf_decodes_them(scalar: tuple[str, object]) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    message = Value(**{scalar[0]: scalar[1]})
    ours, theirs = value.decode(message.SerializeToString()), getattr(message, scalar[0])
    assert type(ours) is type(theirs)
    assert ours == theirs or (math.isnan(ours) and math.isnan(theirs))  # type: ignore[arg-type]


def test_null_and_unset_values_are_missing() -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    for message in (Value(null_val=0), Value(), Value(unix_timestamp_val=NO_TIME)):
        assert value.decode(message.SerializeToString()) is None
        assert math.isnan(value.number(message.SerializeToString()))
    assert math.isnan(value.number(None))


def test_a_string_becomes_its_categorys_position_and_an_unknown_one_is_missing() -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    raw = Value(string_val="AA").SerializeToString()
    assert value.number(raw, {"9E": 0.0, "AA": 1.0}) == 1.0
    assert math.isnan(value.number(raw, {"9E": 0.0}))
    with pytest.raises(ValueError, match="holds 'AA', expected a number"):
        value.number(raw)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=30))
def test_garbage_is_refused_and_never_crashes(raw: bytes) -> None:
    with contextlib.suppress(ValueError):  # UnicodeDecodeError is one
        value.decode(raw)
    with contextlib.suppress(ValueError):
        value.seconds(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"\x29" + struct.pack("<d", 1.0)[:5], "truncated", id="truncated-double"),
        pytest.param(b"\x12\x05ab", "truncated", id="truncated-string"),
        pytest.param(b"\x29" + struct.pack("<d", 1.0) + b"\x00", "follow the value", id="trailing"),
        pytest.param(b"\x7a\x00", "no? scalar|not a scalar", id="list"),
        pytest.param(b"\xff" * 12, "varint", id="endless-varint"),
    ],
)
def test_says_what_is_wrong_with_a_value(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        value.decode(raw)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 999_999_999))
def test_event_times_decode_as_protobuf_decodes_them(whole: int, nanos: int) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    assert value.seconds(Timestamp(seconds=whole, nanos=nanos).SerializeToString()) == whole + nanos / 1e9


@settings(max_examples=300, deadline=None)
@given(TEXT, TEXT)
def test_redis_fields_are_named_as_feast_names_them(view: str, feature: str) -> None:
    from feast.infra.online_stores.helpers import _mmh3

    assert field_name(view, feature) == _mmh3(f"{view}:{feature}")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=70))
def test_murmur3_is_murmur3(data: bytes) -> None:
    import mmh3

    assert murmur3_32(data) == mmh3.hash(data, signed=False)
