"""jobs/plan."""
