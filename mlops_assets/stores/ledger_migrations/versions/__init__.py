"""One migration per file, named after its revision."""
