"""How well pairs lie on each other that others made: found in a folder, measured, shown, and cut to what overlaps."""
