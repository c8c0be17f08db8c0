"""The static site generator."""
