"""Training recipes, one a file: each holds ``RECIPE``."""
