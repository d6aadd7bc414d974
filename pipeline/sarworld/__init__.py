"""A small physical world with everything known: truth for tests, benchmarks and scale runs."""
