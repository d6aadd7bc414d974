"""The page of a release: a browsable explorer that opens from a folder or from a static server, and loads nothing."""
