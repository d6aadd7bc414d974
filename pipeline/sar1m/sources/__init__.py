"""Where scenes come from: one adapter per service, each yielding candidates and reading one block at a time."""
