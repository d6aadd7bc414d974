"""Quick checks of a pretrained run: the list of the SARMAE paper."""
