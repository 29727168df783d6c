"""ensemble/evaluation."""
