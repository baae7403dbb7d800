"""Migrations of the ledger's tables, run by `ledger_schema` when a ledger is opened.

Alembic reads the files in `versions`. A migration that was released never changes.
"""
