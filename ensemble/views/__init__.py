"""ensemble/views."""
