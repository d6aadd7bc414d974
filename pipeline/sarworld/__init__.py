"""A small simulated world of which everything is known: truth for tests, benchmarks and large test builds."""
