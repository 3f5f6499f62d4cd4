"""Copies of requests, accounted for across restarts of the engine and of the proxy."""

from __future__ import annotations

import pytest

from serving.release.envoy.admin import AdminError, Counted
from windlass.errors import WindlassError
from windlass.local.copies import Copies, Sent


class Proxy:
    def __init__(self):
        self.counts: Counted | None = Counted(answered=100, failed=3)

    def __call__(self):
        if self.counts is None:
            raise AdminError("down")
        return self.counts


def test_copies_are_counted_from_the_releases_beginning(tmp_path):
    proxy = Proxy()
    copies = Copies(proxy, tmp_path / "copies.json")
    assert copies.sent() == Sent(0, 0)
    proxy.counts = Counted(answered=150, failed=5)
    assert copies.sent() == Sent(50, 2)


def test_a_restart_of_the_engine_loses_no_copy(tmp_path):
    proxy = Proxy()
    Copies(proxy, tmp_path / "copies.json").sent()
    proxy.counts = Counted(answered=150, failed=5)
    assert Copies(proxy, tmp_path / "copies.json").sent() == Sent(50, 2)


def test_a_restart_of_the_proxy_loses_none_that_was_seen(tmp_path):
    proxy = Proxy()
    copies = Copies(proxy, tmp_path / "copies.json")
    copies.sent()
    proxy.counts = Counted(answered=150, failed=5)
    copies.sent()
    proxy.counts = Counted(answered=10, failed=1)
    assert copies.sent() == Sent(60, 3)
    proxy.counts = Counted(answered=12, failed=1)
    assert Copies(proxy, tmp_path / "copies.json").sent() == Sent(62, 3)


def test_a_proxy_that_does_not_answer_is_no_zero(tmp_path):
    proxy = Proxy()
    proxy.counts = None
    with pytest.raises(WindlassError, match="copies cannot be read"):
        Copies(proxy, tmp_path / "copies.json").sent()
