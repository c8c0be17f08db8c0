"""Versions of code that takes part in a model's function, read without running it."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

from models_zoo.errors import ZooError


@cache
def literal_version(module: str) -> int:
    """The constant ``VERSION`` of a module, read from its source without running it (and without importing torch)."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ZooError(f"The module {module} cannot be found; reinstall the package that it belongs to.")
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == "VERSION" for t in targets):
            value = getattr(node, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, int):
                return value.value
    raise ZooError(f"{spec.origin} has no line `VERSION = <integer>`; every architecture needs one.")
