"""Models of other frameworks as torch modules, which every attack and measure takes."""

from __future__ import annotations

from benchmark.frameworks.jax_models import from_jax
from benchmark.frameworks.keras_models import from_keras

__all__ = ["from_jax", "from_keras"]
