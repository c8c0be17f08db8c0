"""Who may import whom, as docs/architecture.md says, and what must stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "curveboard": ROOT / "curveboard",
    "benchmark": ROOT / "benchmark",
    "models_zoo": ROOT / "models_zoo",
    "db": ROOT / "db",
    "sitegen": ROOT / "site" / "sitegen",
}

LIBRARY = {
    f"benchmark.{name}"
    for name in (
        "apart",
        "attacks",
        "certificates",
        "clever",
        "correlation",
        "counting",
        "curve",
        "curve_forms",
        "differences",
        "errors",
        "flags",
        "global_state",
        "inputs",
        "intervals",
        "isolation",
        "measures",
        "memory",
        "modes",
        "plugins",
        "processes",
        "ranks",
        "rejection",
        "results",
        "resuming",
        "statistics",
        "threat",
        "twin",
        "verification",
    )
}

DATA = {"benchmark.data", "models_zoo"}

# Importer -> what it may import of this project; the longest prefix that fits a module holds for it.
# benchmark.jobs → evidence → board → db; measures → attacks, data, clever, certificates → threat.
MAY_IMPORT = {
    "curveboard": {"curveboard", "benchmark"},
    "benchmark": LIBRARY | {"benchmark.frameworks", "benchmark.library"},
    "benchmark.apart": LIBRARY | {"models_zoo", "db.errors"},
    "benchmark.attacks": LIBRARY,
    "benchmark.certificates": LIBRARY,
    "benchmark.clever": LIBRARY,
    "benchmark.threat": {"benchmark.threat", "benchmark.errors", "benchmark.plugins"},
    "benchmark.measures": LIBRARY | DATA | {"benchmark.conformance"},
    "benchmark.conformance": LIBRARY | {"models_zoo.inner_passes"},
    "benchmark.plugins": {"benchmark.errors", "models_zoo.own_code"},
    "benchmark.cli": {"benchmark", "models_zoo", "db", "sitegen"},
    "benchmark.data": {"benchmark.errors", "benchmark.plugins", "benchmark.results", "benchmark.threat"} | DATA,
    "benchmark.jobs": LIBRARY
    | DATA
    | {"benchmark.conformance", "benchmark.jobs", "benchmark.evidence", "benchmark.board", "db"},
    "benchmark.evidence": LIBRARY | DATA | {"benchmark.evidence", "benchmark.board", "benchmark.workspace", "db"},
    "benchmark.evidence.store": {"benchmark.errors", "benchmark.evidence.files", "models_zoo.fetch"},
    "benchmark.evidence.files": {"benchmark.errors"},
    "benchmark.board": LIBRARY | DATA | {"benchmark.board", "db"},
    "benchmark.workspace": {"benchmark.errors", "db"},
    "benchmark.backup": {"benchmark.errors", "benchmark.evidence.store", "benchmark.workspace", "db"},
    "benchmark.curve": {
        "benchmark.errors",
        "benchmark.intervals",
        "benchmark.results",
        "benchmark.statistics",
        "benchmark.threat",
        "benchmark.curve",
        "benchmark.curve_forms",
    },
    "benchmark.curve_forms": {"benchmark.errors", "benchmark.results", "benchmark.curve"},
    "benchmark.differences": {"benchmark.errors", "benchmark.curve", "benchmark.threat"},
    "benchmark.frameworks": {"benchmark.errors", "models_zoo.errors", "models_zoo.frameworks"},
    "benchmark.intervals": set(),
    "benchmark.ranks": {"benchmark.errors", "benchmark.curve", "benchmark.threat"},
    "benchmark.statistics": {
        "benchmark.errors",
        "benchmark.intervals",
        "benchmark.ranks",
        "benchmark.results",
        "benchmark.threat",
        "benchmark.curve",
    },
    "models_zoo": {"models_zoo"},
    "models_zoo.training": {
        "models_zoo",
        "benchmark.attacks",
        "benchmark.data",
        "benchmark.errors",
        "benchmark.plugins",
        "benchmark.threat",
    },
    "db": {"db"},
    "sitegen": {
        "sitegen",
        "db",
        "benchmark.board",
        "benchmark.correlation",
        "benchmark.curve",
        "benchmark.differences",
        "benchmark.intervals",
        "benchmark.statistics",
        "benchmark.evidence.store",
        "benchmark.errors",
        "benchmark.plugins",
        "benchmark.results",
        "benchmark.threat",
    },
}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(p for p in parts if p != "__init__"))), path


def imports(path: Path) -> Iterator[str]:
    """All modules that a file imports, those under TYPE_CHECKING too: what is named there is depended on."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_imports_only_what_it_may(module, path):
    rule = max((prefix for prefix in MAY_IMPORT if inside(module, prefix)), key=len)
    ours = [name for name in imports(path) if name.partition(".")[0] in PACKAGES]
    wrong = [name for name in ours if not any(inside(name, allowed) for allowed in MAY_IMPORT[rule])]
    assert not wrong, f"{module} may not import {wrong}; see docs/architecture.md"


@pytest.mark.parametrize(
    "module",
    [
        "benchmark",
        "benchmark.cli",
        "curveboard",
        "benchmark.curve",
        "benchmark.board.ledger",
        "benchmark.evidence.store",
        "models_zoo",
        "db.queries",
        "sitegen",
    ],
)
def test_light_modules_do_not_load_torch(module):
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_site_stays_the_standard_librarys():
    assert not (ROOT / "site" / "__init__.py").exists()


def test_the_packages_are_in_the_wheel():
    """A pattern in .gitignore would drop a folder from the wheel without a word."""
    ignored = subprocess.run(
        ["git", "check-ignore", *(str(folder) for folder in PACKAGES.values())],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert ignored.stdout == ""
