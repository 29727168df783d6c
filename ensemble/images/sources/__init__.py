"""ensemble/images/sources."""
