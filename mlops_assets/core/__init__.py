"""Pure domain code: arrays, frames and Arrow tables in, frozen dataclasses out.

No file, network, clock or environment is touched here, and neither dagster, mlflow nor feast is
imported. Import the concrete modules; this file re-exports nothing.
"""
