"""Runs that are there already: where their files lie, how they are opened, published and read."""
