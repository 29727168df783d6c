"""Which errors would any weights make? The outranking table answers exactly, in milliseconds.

It keeps the few (image, class) pairs that can decide an error. `builder` makes it while predictions
arrive, `extend` lets it grow, `boxed` makes it smaller, `one_weight` and `measures` read it.
"""
