"""A model's page and its files, from its row alone: nothing here depends on any other model."""
