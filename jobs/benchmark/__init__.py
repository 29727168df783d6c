"""Benchmarks of single parts: each prints a table and writes JSON with what it was measured on."""
