"""The sensors, one per file: each looks at the stores and asks for runs; none does work itself."""
