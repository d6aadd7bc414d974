"""What `make test` leaves to `make test-campaigns`: of a campaign, all values but its representative."""

import pytest


def campaign(*values):
    """Values of a parametrisation, tuples where it has several names, beside at least one that is not in here."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.campaign) for value in values
    ]
