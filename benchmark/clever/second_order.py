"""Curvature of logit differences, for CLEVER of the second order (arXiv:1810.08640).

The most negative eigenvalue of ∇²g is found at many points at once by the Lanczos method; the Hessian is only ever
multiplied by vectors. A network of ReLUs has no curvature to find: it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.errors import UnsupportedModelError

STEPS: Final = 12
"""Lanczos steps; extreme eigenvalues of a Hessian with a few large ones settle in fewer."""

_KINKS: Final = re.compile(
    r"(relu|relu6|leakyrelu|prelu|rrelu|threshold|hard|softshrink|maxpool|adaptivemaxpool|fractionalmaxpool|amax|maximum)",
    re.IGNORECASE,
)
"""Operations with kinks, as the names of autograd's nodes begin (``ReluBackward0``)."""


def refuse_kinks(model: nn.Module, points: Tensor) -> None:
    """Refuse a model that is not twice differentiable.

    Its operations are read off the graph that autograd records, which knows functions as well as modules. What the
    graph hides (a custom function, a ``where``) shows when gradients differ between points although the Hessian is
    zero at each.

    Args:
        model: Classifier in eval mode.
        points: Some points, shape (m, c, h, w), m >= 2.

    Raises:
        UnsupportedModelError: Naming what was found.
    """
    leaf = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf)
    found = sorted({name for name in _operations(logits) if _KINKS.match(name)})
    if found:
        raise UnsupportedModelError(
            f"CLEVER of order 2 needs a twice differentiable model; this one uses {', '.join(found)}, whose Hessian "
            "is zero or undefined. Use order 1, or smooth activations (softplus, tanh, GELU) and average pooling."
        )
    if not logits.requires_grad:
        return  # the first gradient refuses it, with the reason
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(logits.shape[1], generator=generator, device="cpu").to(logits)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((logits @ row).sum(), leaf, create_graph=True)
    direction = torch.randn(leaf.numel(), generator=generator, device="cpu").view_as(leaf).flatten(1).to(leaf)
    product = _product(gradient, leaf, direction, keep=False)
    change = float((gradient - gradient[:1]).detach().abs().max())
    if change > 1e-5 * float(gradient.detach().abs().max()) and not product.any():
        raise UnsupportedModelError(
            f"CLEVER of order 2 needs a twice differentiable model; this one's gradient changes by {change:.3g} "
            "between points although its Hessian is zero at each: it is piecewise linear. Use order 1."
        )


def _operations(output: Tensor) -> Iterator[str]:
    """Names of the operations in autograd's graph, without ``Backward0``."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield re.sub(r"Backward\d*$", "", node.name())
        waiting.extend(following for following, _ in node.next_functions)


def negative_curvature(model: nn.Module, points: Tensor, rows: Tensor, *, steps: int = STEPS) -> Tensor:
    """−λ_min of the Hessian of each logit difference at each point; negative where g is strictly convex.

    Args:
        model: Classifier in eval mode.
        points: Shape (m, c, h, w).
        rows: Cotangents that select f_c − f_j from the logits, shape (T, classes).
        steps: Lanczos steps, one Hessian–vector product each.

    Returns:
        Shape (T, m), float64.
    """
    found = []
    for row in rows:
        leaf = points.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad((model(leaf) @ row).sum(), leaf, create_graph=True)
        found.append(-_smallest_eigenvalue(gradient, leaf, steps))
    return torch.stack(found)


def _smallest_eigenvalue(gradient: Tensor, leaf: Tensor, steps: int) -> Tensor:
    """Of the Jacobian of ``gradient`` in ``leaf``, for each row; shape (m,), float64."""
    m, dimension = len(leaf), leaf[0].numel()
    steps = min(steps, dimension)
    # A fixed start keeps results independent of what was drawn before; it is generic, so it meets all eigenvectors.
    start = torch.randn(dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    vector = (start / start.norm()).to(leaf.device).expand(m, dimension)
    basis: list[Tensor] = []
    diagonal, beside = [], []
    for i in range(steps):
        basis.append(vector)
        product = _product(gradient, leaf, vector, keep=i + 1 < steps)
        diagonal.append((product * vector).sum(dim=1))
        rest = product
        stacked = torch.stack(basis, dim=1)
        for _ in range(2):  # twice is enough: orthogonal to working precision (Giraud et al. 2005)
            rest = rest - torch.einsum("mkd,mk->md", stacked, torch.einsum("mkd,md->mk", stacked, rest))
        size = rest.norm(dim=1)
        beside.append(size)
        vector = rest / size.clamp_min(torch.finfo(size.dtype).tiny)[:, None]
    tridiagonal = torch.diag_embed(torch.stack(diagonal, dim=1))
    if steps > 1:
        off = torch.diag_embed(torch.stack(beside[:-1], dim=1), offset=1)
        tridiagonal = tridiagonal + off + off.transpose(1, 2)
    smallest: Tensor = torch.linalg.eigvalsh(tridiagonal)[:, 0]
    return smallest


def _product(gradient: Tensor, leaf: Tensor, vector: Tensor, *, keep: bool) -> Tensor:
    """The Hessian times a vector for each row, shape (m, d), float64; zero for a linear function."""
    if not gradient.requires_grad:
        return torch.zeros_like(vector)
    (product,) = torch.autograd.grad(
        gradient, leaf, vector.to(leaf.dtype).view_as(leaf), retain_graph=keep, allow_unused=True
    )
    return torch.zeros_like(vector) if product is None else product.flatten(1).double()
