"""What became of predictions: the logs joined, and the sums that arms are compared by.

Monitoring joins its own windows in `monitoring/labels`; here it is arms of rollouts and of
experiments.
"""
