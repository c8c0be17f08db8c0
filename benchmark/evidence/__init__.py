"""Adversarial examples that prove distances: stored, checked, bundled, taken in."""
