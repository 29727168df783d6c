"""cluster/scheduling."""
