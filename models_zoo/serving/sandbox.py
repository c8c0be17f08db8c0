"""Submitted Python code, and files that another framework loads, in a process of their own.

The code is imported by ``models_zoo.serving.worker`` in a child process with limits of memory, file size and time, an
environment without the parent's variables, and, where the kernel allows it, no network. Images and logits cross as raw
numbers, never as pickles, so that nothing the child says can run in the parent. Where the kernel has Landlock, the
child makes, changes and removes files in its temporary folder only; elsewhere it can empty, rename and
delete what its user can. `SandboxedModel` looks like any module: differentiable once, for gradients of logits in the
images.

This keeps accidents in: endless loops, exhausted memory, crashes, prints, clobbered state. It is no wall against
malice, since the child runs as the same user; so code runs at all only after the maintainer said ``--trust-code``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import json
import math
import os
import selectors
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models_zoo.errors import CodeError
from models_zoo.serving.builders import Served

FORWARD: Final = b"F"
BACKWARD: Final = b"B"
HELD: Final = b"H"
"""A gradient of the last forward pass, if the child still holds it: without the images."""

INNER: Final = b"I"
ANSWER: Final = b"K"
FORGOTTEN: Final = b"N"
MAX_NUMBERS: Final = 1 << 28
"""Most float32 numbers that one answer may have."""

_PIPE: Final = 1 << 20
"""Bytes that the lines to the child and back hold, where the system allows: fewer turns of the two processes."""

Fill = Callable[[memoryview], None]
"""Fills a buffer with the next bytes that come."""


@dataclass(frozen=True)
class Limits:
    """What submitted code may use.

    Attributes:
        memory: Bytes of address space (on a CPU; a GPU's driver needs more address space than there is memory).
        start_seconds: Wall time to import the code and build the model.
        call_seconds: Wall time of one forward or backward pass.
    """

    memory: int = 16 << 30
    start_seconds: float = 120.0
    call_seconds: float = 120.0


class SandboxedModel(nn.Module):
    """A model whose code runs in a child process.

    Args:
        served: The Python file and the function in it, or the file of another framework.
        device: Where the child puts the model.
        limits: What it may use.

    Attributes:
        n_parameters: Number of parameters, as the child counts them.

    Raises:
        CodeError: If the code fails, takes too long or too much memory; at the start or at any later call.
    """

    def __init__(
        self,
        served: Served,
        *,
        device: str | torch.device = "cpu",
        limits: Limits | None = None,
    ) -> None:
        super().__init__()
        self._limits = limits or Limits()
        self._name = f"The {'file' if served.form == 'keras' else 'code'} {Path(served.file).name}"
        self._calls = itertools.count(1)  # an object: attributes are put back after an attack, numbers are never reused
        home = tempfile.TemporaryDirectory(prefix="curveboard-code-")
        command = [sys.executable, "-I", "-m", "models_zoo.serving.worker", json.dumps(dataclasses.asdict(served))]
        memory = 0 if torch.device(device).type == "cuda" else self._limits.memory
        self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and worker
            [*command, str(device), str(memory), str(torch.get_num_threads())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home.name,
            env={"PATH": os.environ.get("PATH", ""), "HOME": home.name, "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        weakref.finalize(self, _stop, self._child, home)
        for stream in (self._child.stdin, self._child.stdout):
            _widen(stream)
        held = self._answer(self._limits.start_seconds, "start")
        self.n_parameters = 0 if held is None else int(held.item())

    @property
    def inner_passes(self) -> int:
        """Backward passes that the last forward pass ran inside the child."""
        return int(self.call(INNER).item())

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``x``, shape (n, k)."""
        if torch.is_grad_enabled() and x.requires_grad:
            return cast("Tensor", _Remote.apply(x, self))  # type: ignore[no-untyped-call]
        return self.call(FORWARD, x).to(x)

    def gradient(self, x: Tensor, gradient: Tensor, number: int) -> Tensor:
        """The gradient by the images ``x`` of the forward pass of that number."""
        found = self._ask(HELD, gradient, number=number)
        return self.call(BACKWARD, x, gradient, number=number) if found is None else found

    def call(self, operation: bytes, *tensors: Tensor, number: int = 0) -> Tensor:
        """Send tensors to the child; its answer, float32 on the CPU."""
        answer = self._ask(operation, *tensors, number=number)
        if answer is None:
            raise self._disturbed("no answer")
        return answer

    def _ask(self, operation: bytes, *tensors: Tensor, number: int = 0) -> Tensor | None:
        """The child's answer; None where it no longer has what was asked for."""
        arrays = [t.detach().to("cpu", torch.float32).contiguous().numpy() for t in tensors]
        parts = [operation + struct.pack("<q", number), *(part for array in arrays for part in pack(array))]
        deadline = time.monotonic() + self._limits.call_seconds
        try:
            for part in parts:
                _write(self._child.stdin, part, deadline)
        except (BrokenPipeError, ValueError):
            raise self._ended("a call") from None
        except TimeoutError:
            raise self._too_slow("a call", self._limits.call_seconds) from None
        return self._answer(self._limits.call_seconds, "a call")

    def next_number(self) -> int:
        """A number for a forward pass whose gradient may be asked for."""
        return next(self._calls)

    def _answer(self, seconds: float, what: str) -> Tensor | None:
        deadline = time.monotonic() + seconds

        def fill(buffer: memoryview) -> None:
            _fill(buffer, self._child.stdout, deadline)

        try:
            kind = read(fill, 1)
            if kind == ANSWER:
                return unpack(fill)
            if kind == FORGOTTEN:
                return None
            (length,) = struct.unpack("<q", read(fill, 8))
            text = read(fill, min(max(length, 0), 2000)).decode(errors="replace")
        except TimeoutError:
            raise self._too_slow(what, seconds) from None
        except EOFError:
            raise self._ended(what) from None
        except (struct.error, ValueError) as error:
            raise self._disturbed(error) from error
        raise CodeError(f"{self._name} failed at {what}: {''.join(c for c in text if c.isprintable())}")

    def _too_slow(self, what: str, seconds: float) -> CodeError:
        self._child.kill()
        return CodeError(f"{self._name} was stopped: {what} took more than {seconds:g} seconds.")

    def _disturbed(self, why: object) -> CodeError:
        self._child.kill()
        return CodeError(f"{self._name} wrote into the line that its answers come by ({why}).")

    def _ended(self, what: str) -> CodeError:
        code = self._child.wait(5)
        return CodeError(
            f"{self._name}: its process ended during {what} with status {code}"
            f"{' (killed; was memory short?)' if code < 0 else ''}. It may use {self._limits.memory >> 20} MiB."
        )


class _Remote(torch.autograd.Function):
    """The forward and the backward pass in the child."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, model: SandboxedModel) -> Tensor:
        ctx.model, ctx.number = model, model.next_number()
        ctx.save_for_backward(x)
        return model.call(FORWARD, x, number=ctx.number).to(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        found = ctx.model.gradient(x, gradient, ctx.number)
        if found.shape != x.shape:
            raise CodeError(f"The code gave a gradient of shape {tuple(found.shape)} for images {tuple(x.shape)}.")
        return found.to(x), None


def pack(array: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[bytes, memoryview]:
    """Shape, and numbers, as bytes: these are not copied."""
    numbers = np.ascontiguousarray(array, dtype="<f4").reshape(-1)
    return struct.pack(f"<q{array.ndim}q", array.ndim, *array.shape), numbers.view(np.uint8).data


def read(fill: Fill, n: int) -> bytes:
    """The next ``n`` bytes."""
    buffer = bytearray(n)
    fill(memoryview(buffer))
    return bytes(buffer)


def unpack(fill: Fill) -> Tensor:
    """The tensor of `pack`; ``fill(buffer)`` fills a buffer with the next bytes.

    Raises:
        ValueError: If the shape is impossible.
    """
    (ndim,) = struct.unpack("<q", read(fill, 8))
    if not 0 <= ndim <= 8:
        raise ValueError(f"a tensor of {ndim} axes")
    shape = struct.unpack(f"<{ndim}q", read(fill, 8 * ndim))
    if any(n < 0 for n in shape) or math.prod(shape) > MAX_NUMBERS:
        raise ValueError(f"a tensor of shape {shape}")
    numbers = np.empty(math.prod(shape), dtype="<f4")
    fill(numbers.view(np.uint8).data)
    return torch.from_numpy(numbers.astype(np.float32, copy=False).reshape(shape))


def _fill(buffer: memoryview, stream: IO[bytes] | None, deadline: float) -> None:
    assert stream is not None
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while buffer:
            if not selector.select(deadline - time.monotonic()):
                raise TimeoutError
            count = os.readv(stream.fileno(), [buffer])
            if not count:
                raise EOFError
            buffer = buffer[count:]


def _write(stream: IO[bytes] | None, message: bytes | memoryview, deadline: float) -> None:
    assert stream is not None
    os.set_blocking(stream.fileno(), False)
    rest = memoryview(message)
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_WRITE)
        while rest:
            if not selector.select(deadline - time.monotonic()):
                raise TimeoutError
            rest = rest[os.write(stream.fileno(), rest) :]


def _widen(stream: IO[bytes] | None) -> None:
    if stream is not None and hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
        with contextlib.suppress(OSError):
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE)


def _stop(child: subprocess.Popen[bytes], home: tempfile.TemporaryDirectory[str]) -> None:
    child.kill()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    child.wait()
    home.cleanup()
