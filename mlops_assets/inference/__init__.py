"""Scoring outside the server: rows with their features, and batches of predictions."""
