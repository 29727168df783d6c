"""ensemble/outranking."""
