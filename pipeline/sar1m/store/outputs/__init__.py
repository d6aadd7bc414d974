"""Where builds write: one interface, so that a build is the same wherever it goes. So far folders."""
