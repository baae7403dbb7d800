"""The replay: a stretch of real time walked day by day, to see what the gates are worth.

Who predicts, what is trained, judged, rolled out and released is decided by the platform's own
functions; what is written lies below a folder of its own. Knows no Dagster.
"""
