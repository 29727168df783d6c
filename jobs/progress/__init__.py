"""jobs/progress."""
