"""Curveboard: robustness curves, CLEVER scores and certificates for any torch classifier.

The names below are the library's public face. They are loaded on first use, so that importing a light part of the
package (the command line's help, the site generator) does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.clever import clever_scores
    from benchmark.curve import RobustnessCurve
    from benchmark.differences import compare
    from benchmark.frameworks import from_jax, from_keras, from_tensorflow
    from benchmark.library import robustness_curve
    from benchmark.verification import verify

_HOME = {
    "RobustnessCurve": "benchmark.curve",
    "clever_scores": "benchmark.clever",
    "from_jax": "benchmark.frameworks",
    "from_keras": "benchmark.frameworks",
    "from_tensorflow": "benchmark.frameworks",
    "compare": "benchmark.differences",
    "robustness_curve": "benchmark.library",
    "verify": "benchmark.verification",
}

__all__ = [
    "RobustnessCurve",
    "clever_scores",
    "compare",
    "from_jax",
    "from_keras",
    "from_tensorflow",
    "robustness_curve",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
