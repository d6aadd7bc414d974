"""How many examples a property is tried with: a share of what the profile in conftest.py says."""

from hypothesis import settings


def examples(share: float) -> settings:
    """Decorates a test whose examples cost much (a share below 1), or whose faults are rare (above 1)."""
    return settings(max_examples=max(1, round(share * settings().max_examples)))
