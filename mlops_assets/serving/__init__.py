"""The model server: champions behind HTTP, with their features, routing, records and limits.

Never imports dagster. Import concrete modules directly; this package re-exports nothing.
"""
