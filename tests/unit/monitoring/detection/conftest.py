"""What the tests of detection share: learned once."""

from __future__ import annotations

import pytest

from monitoring.detection.baseline import Baseline
from tests.support import detection_flights
from tests.support.detection_flights import Flights


@pytest.fixture(scope="session")
def flights() -> Flights:
    return detection_flights.load()


@pytest.fixture(scope="session")
def reference(flights: Flights) -> Flights:
    return detection_flights.reference_of(flights)


@pytest.fixture(scope="session")
def learned(reference: Flights) -> Baseline:
    return detection_flights.learn(reference)
