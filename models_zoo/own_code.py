"""Python files of the workspace in use: imported as the files of the package are, for they are its maintainer's own.

A workspace's ``architectures/``, ``attacks/``, ``measures/`` … hold plug-ins. Which workspace is in use stands in an
environment variable, so that worker processes find the same files. What a stranger submits never lies in these folders
(docs/submitting.md).
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from models_zoo.errors import OwnCodeError

VARIABLE: Final = "CURVEBOARD_PLUGINS"


def use(root: Path | None) -> None:
    """Find the plug-ins of the workspace in ``root`` from now on, here and in processes that are started from here."""
    if root is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = str(root.absolute())


def workspace_folder() -> Path | None:
    """The folder of the workspace whose plug-ins are found; None if none is in use."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value else None


def workspace_modules(root: Path, kind: str) -> Iterator[tuple[Path, str]]:
    """The Python files of a workspace's folder, sorted, and the names that they are imported by."""
    for path in sorted((root / kind).glob("*.py")):
        if not path.name.startswith("_"):
            yield path, f"{_package_of(root)}.{kind}.{path.stem}"


def import_file(path: Path, name: str) -> ModuleType:
    """Import a file of a workspace; raises `OwnCodeError` with the file and line where it fails."""
    importlib.invalidate_caches()  # the file may be newer than what Python remembers of its folder
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise OwnCodeError(f"{path} cannot be imported: {_where(error, path)}. Repair or remove it.") from error


def _where(error: Exception, path: Path) -> str:
    """What failed, and in which line of the file."""
    if isinstance(error, SyntaxError):
        return f"{error.msg}, line {error.lineno}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{error!r}" + (f", line {line}" if line else "")


def _package_of(root: Path) -> str:
    """A package of the workspace's own, so that its files can import one another, and hide nobody else's."""
    name = f"curveboard_workspace_{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        package = ModuleType(name, f"The plug-ins of {root}.")
        package.__path__ = [str(root)]
        sys.modules[name] = package
    return name
