"""Runs as jobs on the head of a cluster, over HTTP and with a token."""
