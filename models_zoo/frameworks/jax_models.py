"""JAX functions as torch modules: ``jit`` once a shape, gradients by ``vjp``, arrays shared through DLPack."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch.utils.dlpack
from torch import Tensor, nn

from models_zoo.errors import FrameworkError
from models_zoo.frameworks.bridge import ForeignModel, Pullback
from models_zoo.optional import optional

VERSION: Final = 1
"""Of how a submitted function is called; it takes part in a model's digest."""


def from_jax(fn: Callable[..., Any], parameters: Any = None, *, channels_last: bool = False) -> nn.Module:
    """A JAX classifier as a torch module; see `benchmark.from_jax`.

    Raises:
        FrameworkError: If ``fn`` is no function.
        ZooError: If JAX is not installed.
    """
    jax = optional("jax", extra="jax", what="A JAX model")
    if not callable(fn):
        raise FrameworkError(f"from_jax takes a function of images, not {fn!r:.80}.")
    leaves = jax.tree_util.tree_leaves(parameters)
    held = () if parameters is None else (jax.tree_util.tree_map(jax.numpy.asarray, parameters),)

    def logits(held: tuple[Any, ...], x: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return jax.numpy.asarray(fn(*held, x), dtype=jax.numpy.float32)

    plain = jax.jit(logits)
    # The pullback is a tree of the saved arrays with a compiled rule: nothing is computed twice in the backward pass.
    linear = jax.jit(lambda held, x: jax.vjp(lambda v: logits(held, v), x))
    pull = jax.jit(lambda pullback, gradient: pullback(gradient)[0])

    def forward(x: Tensor) -> Tensor:
        return _to_torch(jax, plain(held, _to_jax(jax, x)))

    def linearise(x: Tensor) -> tuple[Tensor, Pullback]:
        output, pullback = linear(held, _to_jax(jax, x))
        return _to_torch(jax, output), lambda gradient: _to_torch(jax, pull(pullback, _to_jax(jax, gradient)))

    count = sum(math.prod(getattr(leaf, "shape", ())) for leaf in leaves)
    return ForeignModel(forward, linearise, n_parameters=count, channels_last=channels_last)


def _to_jax(jax: Any, x: Tensor) -> Any:
    """The tensor as a JAX array, shared where JAX can see its device."""
    if x.device.type != "cpu" and jax.default_backend() == "cpu":
        x = x.cpu()
    return jax.dlpack.from_dlpack(x.contiguous())


def _to_torch(jax: Any, array: Any) -> Tensor:
    """A copy, since JAX's arrays never change and torch's do; when it is there, JAX is done with what it was given."""
    shared: Tensor = torch.utils.dlpack.from_dlpack(jax.block_until_ready(array))
    return shared.clone()
