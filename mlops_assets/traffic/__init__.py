"""Replays real rows of a model against a server, in the order in which they happened.

What a server does with them is in `serving`; nothing here knows how it is built inside.
"""
