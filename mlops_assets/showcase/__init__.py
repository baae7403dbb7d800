"""Worked examples. The only place where the platform meets a concrete domain."""
