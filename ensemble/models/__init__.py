"""Which architectures are there, and how is each one built? One file a family."""
