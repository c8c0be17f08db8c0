"""Datasets, one a file, and their registry."""
