"""A curve that is computed some samples at a time, kept after each part, and gone on with where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmark import curve_forms
from benchmark.curve import RobustnessCurve
from benchmark.errors import InputError

if TYPE_CHECKING:
    from benchmark.inputs import Prepared

CHUNK: Final = 100
"""Samples at a time where progress or resuming is asked for and no number is given."""
POOL: Final = 1000
"""Images of the whole that each part starts its searches from."""
Progress = bool | Callable[[int, int], None]


def key_of(given: Prepared, **settings: Any) -> str:
    """Digest of all that determines a curve: model, images, labels, pool, settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    with torch.no_grad():
        answers = given.model(given.x[:CHUNK]).argmax(dim=1)  # a plain function has no parameters to be known by
    for tensor in (given.x, given.y, given.pool, answers, *_state(given.model)):
        if tensor is not None:
            digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _state(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def part_seed(seed: int, start: int) -> int:
    """The seed of the part that begins at a sample; the first has the seed itself."""
    return seed if start == 0 else int.from_bytes(hashlib.sha256(f"{seed} {start}".encode()).digest()[:4], "big")


def in_parts(
    compute: Callable[[int, int], RobustnessCurve],
    *,
    n: int,
    chunk: int,
    progress: Progress,
    path: Path | None,
    key: Callable[[], str],
) -> RobustnessCurve:
    """The curve of all samples, part by part.

    Args:
        compute: Gives the curve of samples ``start`` to ``stop``.
        n: How many samples there are.
        chunk: Samples of a part.
        progress: Whether to draw a bar; or a function that is told (samples done, of how many) after each part.
        path: Where the curve is kept; beside it, in ``<path>.part``, what there is so far.
        key: What the curve is of; asked for where there is a path.

    Raises:
        InputError: If the file at ``path`` is of something else.
    """
    own = key() if path is not None else ""
    if path is not None and path.exists():
        return _kept(path, own)
    part = None if path is None else path.with_name(f"{path.name}.part")
    parts = [_kept(part, own)] if part is not None and part.exists() else []
    with _shown(progress, n) as report:
        done = sum(map(len, parts))
        report(done, n)
        for start in range(done, n, chunk):
            parts = [joined([*parts, compute(start, min(start + chunk, n))])]
            if part is not None:
                _keep(parts[0], part, own)
            report(len(parts[0]), n)
    if path is not None and part is not None:
        part.replace(path)
    return parts[0]


def _keep(curve: RobustnessCurve, path: Path, key: str) -> None:
    scratch = path.with_name(f"{path.name}.new")
    curve_forms.save(curve, scratch, key=key)
    scratch.replace(path)


def _kept(path: Path, key: str) -> RobustnessCurve:
    found = curve_forms.load(path)
    if found.pop("key") != key:
        raise InputError(
            f"{path} is of another computation: another model, other images, labels or settings. Give another file, or "
            "remove it."
        )
    return RobustnessCurve(**found)


def joined(curves: Sequence[RobustnessCurve]) -> RobustnessCurve:
    """Curves of different samples as one; of flags with one code, the one of the largest value."""
    if len(curves) == 1:
        return curves[0]
    flags = sorted((f for c in curves for f in c.flags), key=lambda f: (f.code, -(f.value or 0.0)))
    known = [c.adversarials for c in curves if c.adversarials is not None]
    return RobustnessCurve(
        distances=np.concatenate([c.distances for c in curves]),
        norm=curves[0].norm,
        adversarials=np.concatenate(known) if len(known) == len(curves) else None,
        flags=tuple({flag.code: flag for flag in reversed(flags)}.values())[::-1],
        origin=tuple(name for c in curves for name in c.origin),
    )


@contextmanager
def _shown(progress: Progress, n: int) -> Iterator[Callable[[int, int], None]]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, of: None
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns) as bar:
            task = bar.add_task("samples", total=n)
            yield lambda done, of: bar.update(task, completed=done)
