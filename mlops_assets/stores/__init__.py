"""One outside system per file: the lake, Feast, MLflow.

A store knows `core` and never dagster. Import the concrete modules; this file re-exports nothing.
"""
