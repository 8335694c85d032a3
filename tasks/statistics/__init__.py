"""Metrics, bootstrap and tests of hypotheses: pure functions of arrays."""
