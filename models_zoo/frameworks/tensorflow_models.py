"""TensorFlow functions as torch modules: ``tf.function`` once a shape, gradients by a tape, arrays through NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models_zoo.errors import FrameworkError
from models_zoo.frameworks.bridge import ForeignModel, Pullback
from models_zoo.optional import optional


def from_tensorflow(fn: Callable[..., Any], *, channels_last: bool = True) -> nn.Module:
    """A TensorFlow classifier as a torch module; see `benchmark.from_tensorflow`.

    Raises:
        FrameworkError: If ``fn`` is no function.
        ZooError: If TensorFlow is not installed.
    """
    tf = optional("tensorflow", extra="tensorflow", what="A TensorFlow model")
    if not callable(fn):
        raise FrameworkError(f"from_tensorflow takes a function of images, not {fn!r:.80}.")
    return bridged(tf, fn, getattr(fn, "variables", ()), channels_last=channels_last)


def bridged(tf: Any, fn: Callable[..., Any], variables: Iterable[Any], *, channels_last: bool) -> nn.Module:
    """The module of a function and of the variables that it reads.

    Args:
        tf: The package.
        fn: Images -> logits.
        variables: What its parameters are counted by.
        channels_last: Whether it takes images as (n, h, w, c).
    """

    def in_float32(x: Any) -> Any:
        return tf.cast(fn(x), tf.float32)

    logits = tf.function(in_float32, reduce_retracing=False)

    def forward(x: Tensor) -> Tensor:
        with _full_float32(tf):
            return _to_torch(logits(_to_tensorflow(tf, x)))

    def linearise(x: Tensor) -> tuple[Tensor, Pullback]:
        images = _to_tensorflow(tf, x)
        # Persistent, since several gradients of one forward pass may be asked for.
        tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        with _full_float32(tf), tape:
            tape.watch(images)
            output = logits(images)

        def pullback(gradient: Tensor) -> Tensor:
            with _full_float32(tf):
                found = tape.gradient(
                    output,
                    images,
                    output_gradients=_to_tensorflow(tf, gradient),
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
            return _to_torch(tf.convert_to_tensor(found))

        return _to_torch(output), pullback

    count = sum(math.prod(variable.shape) for variable in variables)
    return ForeignModel(forward, linearise, n_parameters=count, channels_last=channels_last)


def _to_tensorflow(tf: Any, x: Tensor) -> Any:
    """A copy: TensorFlow's tensors never change, and torch's do."""
    return tf.constant(x.cpu().numpy())


def _to_torch(value: Any) -> Tensor:
    """A copy, for the same reason."""
    return torch.from_numpy(value.numpy().copy())


@contextmanager
def _full_float32(tf: Any) -> Iterator[None]:
    """No TensorFloat-32 meanwhile, whose products have ten bits."""
    settings = tf.config.experimental
    before = settings.tensor_float_32_execution_enabled()
    settings.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        settings.enable_tensor_float_32_execution(before)
