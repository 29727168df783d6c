"""The artifact: an ensemble as a folder that predicts without the run that made it.

`document` is what its `ensemble.json` says, `write` makes the folder, and `read` gives the members,
weights and routing in it. Weights are safetensors, each known by its SHA-256; nothing is pickled.
"""
