"""ensemble/artifact."""
