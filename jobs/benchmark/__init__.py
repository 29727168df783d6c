"""Benchmarks of single parts: each measures, prints, and writes one document with its bars and its machine."""
