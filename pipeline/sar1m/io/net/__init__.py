"""One safe way to ask services: checked addresses, limits and budgets of a whole build, whole files or none."""
