"""Everything that knows Dagster: keys, resources, assets, checks, the guard, and their assembly.

Bodies are thin: read with a store, call a pure function, write with a store, return metadata.
Import concrete submodules; this file re-exports nothing, so that importing it costs nothing.
"""
