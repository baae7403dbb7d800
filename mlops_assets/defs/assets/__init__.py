"""The assets, one kind per file, each built by a function from its declaration."""
