"""The curve engine: smallest adversarial distances from several families of searches (docs/engine.md)."""

from benchmark.attacks.engine.search import ATTACK, engine

__all__ = ["ATTACK", "engine"]
