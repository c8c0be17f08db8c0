"""Architectures, one a file: plain torch modules."""
