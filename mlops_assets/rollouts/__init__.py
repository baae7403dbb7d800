"""Rollouts beyond their states: who may start, what is decided on them, and how they are shown.

The states and statistics are in `core`, what is kept of them in `stores/rollouts`, and who is
served what in `serving`.
"""
