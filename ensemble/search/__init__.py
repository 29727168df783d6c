"""From predictions to weights: the outranking table, and the searches on it. NumPy only."""
