"""Monitoring of a model: what its predictions, inputs and labels say, by day and by week."""
