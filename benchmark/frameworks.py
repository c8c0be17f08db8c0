"""The library's face to models of other frameworks: torch modules, which every attack and measure takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from benchmark.errors import UnsupportedModelError
from models_zoo.errors import ZooError


def from_jax(fn: Callable[..., Any], parameters: Any = None, *, channels_last: bool = False) -> nn.Module:
    """A JAX classifier as a torch module, for `robustness_curve`, `clever_scores` and every measure.

    The function is traced and compiled once for each of few batch sizes; products are computed in full float32, also
    on accelerators. Gradients in the images are JAX's own. There are none in the parameters, and no second derivatives.

    Args:
        fn: ``fn(x)`` or, with ``parameters``, ``fn(parameters, x)``: images in [0, 1], float32, shape (n, c, h, w) ->
            logits (n, k). It must be pure, as ``jax.jit`` asks for; dropout and the like in evaluation mode. Of Flax:
            ``model.apply`` with its variables.
        parameters: A tree of arrays, handed to the function; leave it out where the function holds its own.
        channels_last: Whether it takes images as (n, h, w, c), as most JAX models do.

    Returns:
        A module: images (n, c, h, w) -> logits (n, k), float32, on the images' device.

    Raises:
        UnsupportedModelError: If JAX is not installed, or ``fn`` is no function.

    Example:
        >>> model = from_jax(network.apply, variables, channels_last=True)  # doctest: +SKIP
        >>> curve = robustness_curve(model, x, y, norm="l2")  # doctest: +SKIP
    """
    from models_zoo.frameworks import jax_models

    with _told():
        return jax_models.from_jax(fn, parameters, channels_last=channels_last)


def from_keras(model: Any, *, channels_last: bool | None = None) -> nn.Module:
    """A Keras 3 model as a torch module, for `robustness_curve`, `clever_scores` and every measure.

    Keras computes on the backend it was started with. On torch (``KERAS_BACKEND=torch``) the model is a torch module
    already and is only called right: images channels last, in inference mode. On JAX it goes through `from_jax`, on
    TensorFlow as through `from_tensorflow`. A ``.keras`` file loads on any of them, wherever it was saved.

    Args:
        model: A built ``keras.Model`` that returns logits.
        channels_last: Whether it takes images as (n, h, w, c); by default what ``keras.config.image_data_format()``
            says.

    Returns:
        A module: images in [0, 1], float32, shape (n, c, h, w) -> logits (n, k).

    Raises:
        UnsupportedModelError: If Keras is not installed or runs on another backend; if the model is none of Keras 3, is
            not built, or ends in a softmax.
    """
    from models_zoo.frameworks import keras_models

    with _told():
        return keras_models.from_keras(model, channels_last=channels_last)


def from_tensorflow(fn: Callable[..., Any], *, channels_last: bool = True) -> nn.Module:
    """A TensorFlow classifier as a torch module, for `robustness_curve`, `clever_scores` and every measure.

    The function is traced once for each of few batch sizes; products are computed in full float32, also on GPUs.
    Gradients in the images are TensorFlow's own. There are none in the parameters, and no second derivatives.

    Args:
        fn: ``fn(x)``: images in [0, 1], a float32 tensor of shape (n, h, w, c) -> logits (n, k). Any function of
            TensorFlow's operations, a ``tf.Module`` that can be called, or the signature of a SavedModel; dropout and
            the like in inference mode. Models of Keras go through `from_keras`.
        channels_last: Whether it takes images as (n, h, w, c), or as (n, c, h, w).

    Returns:
        A module: images (n, c, h, w) -> logits (n, k), float32, on the images' device.

    Raises:
        UnsupportedModelError: If TensorFlow is not installed, or ``fn`` is no function.

    Example:
        >>> model = from_tensorflow(lambda x: network(x, training=False))  # doctest: +SKIP
        >>> curve = robustness_curve(model, x, y, norm="l2")  # doctest: +SKIP
    """
    from models_zoo.frameworks import tensorflow_models

    with _told():
        return tensorflow_models.from_tensorflow(fn, channels_last=channels_last)


@contextmanager
def _told() -> Iterator[None]:
    """The zoo's errors as the library's."""
    try:
        yield
    except ZooError as error:
        raise UnsupportedModelError(str(error)) from error
