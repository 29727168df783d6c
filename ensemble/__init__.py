"""The library: a pool of image classifiers becomes one better predictor. No ray; no torch before it is needed."""
