"""Which test-time views of an image does a member see? Settings only; no torch."""
