"""How good a predictor is: metrics, outcomes on a split, temperatures, and a check before a run."""
