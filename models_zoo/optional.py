"""Optional packages: imported where they are needed, and told apart when one, or something it needs, is not there."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from models_zoo.errors import ZooError, shown


def require(package: str, *, extra: str, what: str) -> None:
    """Refuse to go on without an optional package, which is not imported.

    Raises:
        ZooError: If it is not installed.
    """
    if sys.modules.get(package, ...) is None or importlib.util.find_spec(package) is None:
        raise ZooError(_absent(what, extra))


def _absent(what: str, extra: str) -> str:
    return f"{what} needs an optional package: pip install 'curveboard[{extra}]'."


def optional(module: str, *, extra: str, what: str) -> Any:
    """An optional package's module.

    Args:
        module: What to import, for instance ``"robustbench.model_zoo"``.
        extra: The extra of this distribution that brings it.
        what: What needs it, for the message.

    Raises:
        ZooError: If the package is not installed, or is but cannot be imported; the message names what is missing.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == package:
            raise ZooError(_absent(what, extra)) from error
        if missing and missing not in sys.modules:
            advice = (
                f"it needs a module {missing!r}, which is not installed. pip install 'curveboard[{extra}]' brings it"
            )
        else:
            advice = f"{shown(error)}. Its version may not fit the others; pip install 'curveboard[{extra}]' into an "
            advice += "environment of its own"
        raise ZooError(f"{what} needs {package}; that is installed but cannot be imported: {advice}.") from error
