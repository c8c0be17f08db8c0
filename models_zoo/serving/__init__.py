"""Running models that are no torch modules of this process."""
