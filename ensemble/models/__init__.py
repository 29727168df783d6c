"""ensemble/models."""
