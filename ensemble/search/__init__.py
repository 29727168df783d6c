"""Which members, at what weights? Searches on an outranking table, and what is said of their weights.

`fit` runs a search by name. `comparison` judges it beside the best member and plain averages;
`explain`, `stability`, `frontier` and `fallbacks` say why, how surely, at what cost, and what to use
when a member is lost. NumPy only.
"""
