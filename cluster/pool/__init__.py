"""cluster/pool."""
