"""Publishing: a verified release put where others find it, and never seen as complete before it is."""
