"""Running out of memory: how it shows, and giving back what is held."""

from __future__ import annotations

import gc

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out: Python's, torch's, or the text that its allocators raise."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError)
        and any(words in text for words in ("out of memory", "can't allocate memory", "not enough memory"))
    )


def give_back() -> None:
    """Let go of what nobody uses any more; call it outside the ``except`` block, whose traceback holds tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
