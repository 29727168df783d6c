"""ensemble/checkpoints."""
