"""A redis URL is read completely or refused, and its password is shown to nobody."""

from __future__ import annotations

import ssl

import pytest

from serving.runtime.features.redis_address import parse
from windlass.errors import UsageError


@pytest.mark.parametrize(
    ("url", "place", "entry"),
    [
        pytest.param("redis://", ("localhost", 6379, None), [], id="nothing-said"),
        pytest.param("redis://store:7000/3", ("store", 7000, None), [("SELECT", "3")], id="database"),
        pytest.param("redis://store?db=4", ("store", 6379, None), [("SELECT", "4")], id="database-as-option"),
        pytest.param("redis://[::1]:7000/0", ("::1", 7000, None), [], id="ipv6"),
        pytest.param("redis://:p%40ss@store", ("store", 6379, None), [("AUTH", "p@ss")], id="password"),
        pytest.param("redis://me:pw@store", ("store", 6379, None), [("AUTH", "me", "pw")], id="user"),
        pytest.param(
            "unix://me:pw@/run/redis%20a.sock?db=2",
            ("localhost", 6379, "/run/redis a.sock"),
            [("AUTH", "me", "pw"), ("SELECT", "2")],
            id="unix",
        ),
    ],
)
def test_reads_place_and_entry(
    url: str, place: tuple[str, int, str | None], entry: list[tuple[str, ...]]
) -> None:
    address = parse(url)
    assert (address.host, address.port, address.path) == place
    assert address.entry == entry
    assert address.tls is None
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    ("query", "mode", "hostname"),
    [
        pytest.param("", ssl.CERT_REQUIRED, True, id="by-default"),
        pytest.param("?ssl_check_hostname=false", ssl.CERT_REQUIRED, False, id="any-name"),
        pytest.param("?ssl_cert_reqs=none", ssl.CERT_NONE, False, id="unverified"),
    ],
)
def test_rediss_verifies_unless_told_otherwise(query: str, mode: ssl.VerifyMode, hostname: bool) -> None:
    context = parse(f"rediss://store{query}").tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (mode, hostname)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("redis://:pw@a:1,b:2/0", "Cluster and Sentinel are not read here", id="several"),
        pytest.param("redis://:pw@store:port", "port", id="port-that-is-none"),
        pytest.param("redis://:pw@store/first", "first", id="database-that-is-none"),
        pytest.param("redis://:pw@store?db=-1", "database is -1", id="negative-database"),
        pytest.param("redis://:pw@store?timeout=3", "option 'timeout' is not known", id="unknown-option"),
        pytest.param(
            "redis://:pw@store?ssl_cert_reqs=none", "'ssl_cert_reqs' is not known", id="tls-of-plain"
        ),
        pytest.param("rediss://:pw@store?ssl_cert_reqs=some", "ssl_cert_reqs is 'some'", id="tls-option"),
        pytest.param("rediss://:pw@store?ssl_ca_certs=/no/ca.pem", "No such file", id="missing-authority"),
        pytest.param("unix://:pw@run/redis.sock", "no host", id="unix-with-host"),
        pytest.param("tcp://:pw@store", "scheme is 'tcp'", id="scheme"),
    ],
)
def test_refuses_what_it_cannot_mean(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        parse(url)
    assert "pw" not in str(refused.value)
