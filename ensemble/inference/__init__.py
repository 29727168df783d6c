"""ensemble/inference."""
