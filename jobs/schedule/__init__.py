"""`ensemble schedule`: a file that starts a night at its time, for each of seven schedulers."""
