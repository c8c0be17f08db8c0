"""What the measurements were made on, in words."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("torch", "numpy", "scipy", "adv-lib", "foolbox", "pyautoattack", "adversarial-robustness-toolbox")


def describe(device: str, threads: int) -> dict[str, str]:
    """Processor, memory, accelerator, Python and library versions."""
    found = {
        "processor": f"{_processor()}, {os.cpu_count()} cores, {threads} thread(s) for each process",
        "memory": f"{_memory_gib():.0f} GiB",
        "python": platform.python_version(),
    }
    if device.startswith("cuda"):
        import torch

        found["accelerator"] = torch.cuda.get_device_name()
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """The model's name as Linux gives it, otherwise what Python knows."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
