"""Requests to services: checked addresses, limits and budgets shared by a whole build, complete files or none."""
