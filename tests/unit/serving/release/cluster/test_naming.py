"""Names on a cluster, there and back."""

from __future__ import annotations

import pytest

from serving.release.cluster import naming
from windlass.errors import UsageError


@pytest.mark.parametrize(
    ("model", "version"),
    [("flights", "13"), ("flights-late", "2-rc1"), ("m", "x" * 50)],
    ids=["usual", "dashes", "long"],
)
def test_a_service_says_its_version(model: str, version: str) -> None:
    """Verify that a version is found again in the name of its Service."""
    assert naming.predictor(model, version) == f"{model}-{version}-predictor"
    assert naming.version_of(model, naming.predictor(model, version)) == version


@pytest.mark.parametrize(
    "service",
    [
        "other-13-predictor",
        "flights-13",
        "flights--predictor",
        "flights-predictor",
        "late-flights-13-predictor",
    ],
)
def test_another_service_has_no_version(service: str) -> None:
    """Verify that a Service of something else is not taken for a version of the model."""
    assert naming.version_of("flights", service) is None


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("Flights", "1"),
        ("flights_late", "1"),
        ("9flights", "1"),
        ("flights", "1.0"),
        ("flights", "-"),
        ("m", "x" * 52),
    ],
)
def test_a_name_that_no_service_can_have_is_refused(model: str, version: str) -> None:
    """Verify that nothing is bent into shape: two models could end as one."""
    with pytest.raises(UsageError, match=r"model .* cannot name a Service on Kubernetes; use lower case"):
        naming.predictor(model, version)
