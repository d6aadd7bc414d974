"""Services that give scenes of an area: one adapter each, opened by name."""
