"""ensemble/storage."""
