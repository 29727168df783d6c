"""Nightly comparison of one deployed ensemble with its baseline: outcomes, tests, verdicts, blame. Pure values."""
