"""How many examples a property is tried on: 50 times as many with HYPOTHESIS_PROFILE=nightly."""

import os

from hypothesis import HealthCheck, settings

NIGHTLY = 50


def examples(number: int) -> settings:
    """A decorator for ``@given`` tests; a test's folder may be shared by its examples."""
    factor = NIGHTLY if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 1
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=number * factor, deadline=None, suppress_health_check=checks)
