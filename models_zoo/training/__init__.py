"""Scripts that trained the zoo's own models, one a family; each is seeded and can be run again."""
