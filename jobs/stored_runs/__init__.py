"""jobs/stored_runs."""
