"""jobs/cli."""
