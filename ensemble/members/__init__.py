"""ensemble/members."""
