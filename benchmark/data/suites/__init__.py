"""Suites: datasets with axes, one a file."""
