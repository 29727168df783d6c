"""Nightly evaluation: a suite of deployed ensembles, one record a night, and what follows from the records."""
