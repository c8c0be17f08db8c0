"""The child process in which submitted code runs; started by `models_zoo.serving.sandbox`.

It limits itself before it imports the code, then answers forward and backward passes until its parent is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

from models_zoo.serving.builders import Served, build
from models_zoo.serving.landlock import restrict_writes

CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000


def main(arguments: list[str]) -> None:
    """Serve one model: what it is (`Served`, as JSON), device, bytes of memory (0: no limit), threads."""
    served, device, memory, threads = arguments
    questions, answers = _private_line()
    _limit(int(memory))

    import torch

    torch.set_num_threads(int(threads))
    try:
        serve = _serve(build(Served(**json.loads(served)), device, int(threads)), device, answers)
    except BaseException as error:
        _fail(answers, error)
        return
    while question := questions.read(9):
        try:
            serve(question[:1], struct.unpack("<q", question[1:])[0], questions)
        except Exception as error:
            _fail(answers, error)


def _private_line() -> tuple[IO[bytes], IO[bytes]]:
    """The streams to the parent, moved to where the code's prints and reads do not reach them by accident."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return questions, answers


def _limit(memory: int) -> None:
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it writes no files
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where the kernel has it: no file is touched but in the temporary folder
        restrict_writes([Path.cwd()])
    with contextlib.suppress(OSError, AttributeError):  # a network of its own, without a way out; where allowed
        libc = ctypes.CDLL(None, use_errno=True)
        libc.unshare(CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWUSER | CLONE_NEWNET)


def _serve(model: Any, device: str, answers: IO[bytes]) -> Callable[[bytes, int, IO[bytes]], None]:
    import torch

    from models_zoo.inner_passes import counted_backward_passes
    from models_zoo.serving.sandbox import ANSWER, FORGOTTEN, FORWARD, HELD, INNER, pack, unpack

    model.to(device)
    inner = 0
    last: tuple[int, Any, Any] | None = None

    def send(result: Any) -> None:
        shape, numbers = pack(result.detach().to("cpu", torch.float32).numpy())
        answers.write(ANSWER + shape)
        answers.write(numbers)
        answers.flush()

    def serve(operation: bytes, number: int, questions: IO[bytes]) -> None:
        nonlocal inner, last
        if operation == INNER:
            send(torch.tensor([float(inner)]))
            return

        def fill(buffer: memoryview) -> None:
            questions.readinto(buffer)  # type: ignore[attr-defined]  # IO does not know it; all or, at the end, less

        x = torch.empty(0) if operation == HELD else unpack(fill).to(device)
        gradient = None if operation == FORWARD else unpack(fill).to(device)
        if operation == HELD and (last is None or last[0] != number):
            answers.write(FORGOTTEN)
            answers.flush()
            return
        if not number:
            with torch.no_grad(), counted_backward_passes() as count:
                logits = model(x)
            inner = count.passes
            send(logits)
            return
        if last is None or last[0] != number:
            x.requires_grad_()
            with torch.enable_grad():
                last = number, x, model(x)
        _, x, logits = last
        if gradient is None:
            send(logits)
            return
        found = None
        if logits.requires_grad:
            (found,) = torch.autograd.grad(logits, x, gradient, retain_graph=True, allow_unused=True)
        send(torch.zeros_like(x) if found is None else found)

    held = sum(p.numel() for p in model.parameters()) + getattr(model, "n_parameters", 0)
    send(torch.tensor([float(held)]))
    return serve


def _fail(answers: IO[bytes], error: BaseException) -> None:
    text = f"{type(error).__name__}: {error}".encode()[:2000]
    with contextlib.suppress(OSError):
        answers.write(b"E" + struct.pack("<q", len(text)) + text)
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
