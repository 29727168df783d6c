"""What is a member, and what identifies its predictions? Settings and values only; no torch."""
