"""Serving over HTTP: what is in a request, what an answer is in each protocol, and the app that ties them together.

Nothing here knows where the ensemble runs: the app is given a `Service`, and works in a notebook as on a cluster.
"""
