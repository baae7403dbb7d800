"""Commands by subject; `cli.py` puts them together."""
