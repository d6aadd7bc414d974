"""What several test files share: small worlds, stores, runs and releases, and what breaks them on purpose."""
