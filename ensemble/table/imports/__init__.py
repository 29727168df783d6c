"""How do predictions that others computed come in: read, joined by what their files say, or refused."""
