"""High-resolution optical tiles that the user may use."""
