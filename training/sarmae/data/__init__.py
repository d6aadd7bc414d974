"""The former name of sarmae.stream, kept for code and cards that were written before it moved."""
