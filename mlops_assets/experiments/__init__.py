"""Experiments beyond their states: who may start, what came of them, and how long they take.

The statistics are in `core.experiment_analysis`, and what is kept of them in `stores/rollouts`.
"""
