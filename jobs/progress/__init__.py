"""The progress of a run or verb: what is shown, what is recorded, and the request to stop."""
