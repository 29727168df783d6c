"""jobs/run."""
