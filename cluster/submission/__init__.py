"""cluster/submission."""
