"""Exact minimal distances of small ReLU networks in linf and l1, as mixed-integer linear programs (HiGHS).

Tjeng et al. 2019, arXiv:1711.07356. Each ReLU whose sign is not settled by its bounds has a binary variable ``a``:

    y >= 0,    y >= z,    y <= u a,    y <= z - l (1 - a)

What makes it fast are the bounds [l, u]: CROWN's, on a ball no larger than the best distance known. One program a
target class: the class with the lowest margin first, so that the ball has shrunk when the next one's bounds are
computed, and a class that CROWN rules out on the ball needs no program at all.

HiGHS works to tolerances of 1e-6 and 1e-7. They widen what it takes for feasible, so its optimum errs downward; the
lower bounds are moved down by `SLACK` for the rest. Upper bounds are distances of verified examples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from benchmark.certificates.ball import Ball, refuse_outside
from benchmark.certificates.bounds import LayerBounds, backward
from benchmark.certificates.coefficients import Dense, to_dense
from benchmark.certificates.crown import margin_bounds, radius
from benchmark.certificates.graph import Graph, check_agreement, lower
from benchmark.certificates.operations import Activation, ChannelMax
from benchmark.certificates.record import Record
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.rejection import refuse_rejection
from benchmark.verification import verify

ExactNorm = Literal["linf", "l1"]
"""The norms in which the nearest adversarial example is a linear objective."""

SLACK: Final = 1e-6
"""How far lower bounds are moved down, relative to themselves, and absolutely in units of the image."""

ROOM: Final = 1e-3
"""How much larger than the best distance known the search ball is, so that an optimum equal to it is found again."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ExactResult:
    """Two bounds of each sample's minimal adversarial distance.

    Attributes:
        lower: No adversarial example is nearer, shape (n,), float64; 0 where misclassified.
        upper: Distance of the nearest verified one, ``inf`` without one; 0 where misclassified.
        solved: Whether every target class was solved to the optimum or ruled out: upper and lower differ by tolerances.
        adversarials: The nearest verified examples, shape of the images, float32; the clean image where there is none.
    """

    lower: Tensor
    upper: Tensor
    solved: Tensor
    adversarials: Tensor


@dataclass(frozen=True, eq=False)
class _Affine:
    """A layer as an affine function of the image and of ReLU layers above it.

    Attributes:
        parts: For layer 0 (the image) and each ReLU layer read, a sparse matrix.
        constant: The constant.
    """

    parts: Mapping[int, sparse.csr_array]
    constant: Vector


@dataclass(frozen=True, eq=False)
class _Network:
    """A ReLU network for the solver: what each ReLU layer reads, and the logits."""

    relus: Mapping[int, _Affine]
    logits: _Affine

    @staticmethod
    def refuse_others(graph: Graph) -> None:
        for node in graph.nodes:
            if isinstance(node.operation, ChannelMax):
                raise UnsupportedModelError("The exact distance is computed for ReLU networks; this has max pooling.")
            if isinstance(node.operation, Activation) and node.operation.kind != "relu":
                raise UnsupportedModelError(
                    f"The exact distance is computed for ReLU networks; this has {node.operation.kind}."
                )

    @staticmethod
    def of(graph: Graph) -> _Network:
        _Network.refuse_others(graph)
        relus = {i: _affine(graph, graph.nodes[i].inputs[0]) for i in graph.nonlinear()}
        return _Network(relus, _affine(graph, len(graph.nodes) - 1))


@dataclass(frozen=True, eq=False)
class _Problem:
    """What all samples share."""

    module: nn.Module
    graph: Graph
    network: _Network
    norm: ExactNorm


def _affine(graph: Graph, node: int) -> _Affine:
    size = graph.nodes[node].shape.numel()
    device = next((t.device for n in graph.nodes for t in vars(n.operation).values() if isinstance(t, Tensor)), None)
    eye = torch.eye(size, dtype=torch.float64, device=device).view(1, size, *graph.nodes[node].shape)
    linear = backward(graph, node, Dense(eye), {})
    parts = {i: sparse.csr_array(to_dense(rows).data.flatten(2)[0].cpu().numpy()) for i, rows in linear.rows.items()}
    return _Affine(parts, linear.constant.expand(1, size)[0].cpu().numpy())


@torch.no_grad()
def refuse_unsolvable(module: nn.Module, x: Tensor, *, most_neurons: int) -> None:
    """Refuse what `exact` would refuse of the network, for who has work to do before.

    Args:
        module: The classifier.
        x: Images, shape (n, c, h, w); one is enough.
        most_neurons: As of `exact`.

    Raises:
        UnsupportedModelError: As of `exact`.
    """
    _Network.refuse_others(_lowered(module, x, most_neurons)[0])


def _lowered(module: nn.Module, x: Tensor, most_neurons: int) -> tuple[Graph, Record]:
    graph, recorded = lower(module, x)
    neurons = sum(graph.nodes[i].shape.numel() for i in graph.nonlinear())
    if neurons > most_neurons:
        raise UnsupportedModelError(
            f"The model has {neurons:,} ReLUs; exact distances are computed for at most {most_neurons}."
        )
    return graph, recorded


@torch.no_grad()
def exact(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: ExactNorm,
    within: Tensor | None = None,
    time_limit: float = 10.0,
    most_neurons: int = 64,
) -> ExactResult:
    """The minimal adversarial distance of each sample, or the two bounds reached in the time.

    Args:
        module: A ReLU classifier of images in [0, 1], traced.
        x: Images, shape (n, c, h, w), float32.
        y: Labels, shape (n,).
        norm: ``"linf"`` or ``"l1"``.
        within: Known adversarial distances, shape (n,), ``inf`` where none is known; the nearer, the faster.
        time_limit: Seconds a sample.
        most_neurons: A network with more ReLUs than this is refused: the program grows exponentially with them.

    Returns:
        Bounds, and the examples behind the upper ones.

    Raises:
        InputError: On another norm, a time limit that is not positive, or images outside the box [0, 1].
        UnsupportedModelError: If the model cannot be traced, is not made of affine layers and ReLUs, is too large, or
            may reject images.
    """
    if norm not in get_args(ExactNorm):
        raise InputError(f"Exact distances are computed in linf and l1, not in {norm!r}: no linear program has it.")
    if not time_limit > 0:
        raise InputError(f"The time limit is {time_limit} s a sample; it must be positive.")
    refuse_outside(x)
    refuse_rejection(module, "the exact distance")
    graph, recorded = _lowered(module, x, most_neurons)
    network = _Network.of(graph)
    check_agreement(graph, recorded, module, x)
    problem = _Problem(module, graph, network, norm)
    out = ExactResult(
        torch.zeros(len(x), dtype=torch.float64, device="cpu"),
        torch.zeros(len(x), dtype=torch.float64, device="cpu"),
        torch.ones(len(x), dtype=torch.bool, device="cpu"),
        x.clone(),
    )
    correct = verify(module, x, y, x).correct
    for i in correct.nonzero().squeeze(1).tolist():
        sample = slice(i, i + 1)
        known = math.inf if within is None else float(within[i])
        deadline = time.monotonic() + time_limit
        search = _Search(problem, x[sample], y[sample], known=known, deadline=deadline)
        out.lower[i], out.upper[i], out.solved[i] = search.run()
        out.adversarials[sample] = search.best
    return out


class _Search:
    """The search for one sample's nearest adversarial example, class by class."""

    def __init__(self, problem: _Problem, x: Tensor, y: Tensor, *, known: float, deadline: float) -> None:
        self.module, self.graph, self.network, self.norm = problem.module, problem.graph, problem.network, problem.norm
        self.x, self.y, self.deadline = x, y, deadline
        self.span = 1.0 if self.norm == "linf" else float(x.numel())
        self.known = known if np.isfinite(known) else self.span
        self.upper = math.inf
        self.best = x.clone()

    @property
    def radius(self) -> float:
        """Radius of the ball that is searched now."""
        return min(self.span, min(self.known, self.upper) * (1 + ROOM) + 1e-9)

    def run(self) -> tuple[float, float, bool]:
        """Lower bound, upper bound, solved."""
        certificate = float(radius(self.graph, self.x, self.y, norm=self.norm)[0])
        open_ = [j for j in range(self.graph.classes) if j != int(self.y)]
        others = list(open_)
        lowers: list[float] = []
        solved = True
        while open_:
            ball = Ball(
                self.x.double(), torch.tensor([self.radius], dtype=torch.float64, device=self.x.device), self.norm
            )
            bounds = LayerBounds(self.graph, ball)
            margins = torch.cat([b.smallest(ball) for b in margin_bounds(bounds, self.y, "crown")], dim=1)[0]
            by_class = dict(zip(others, margins.tolist(), strict=True))
            lowers += [self.radius for j in open_ if by_class[j] > SLACK]
            open_ = [j for j in open_ if by_class[j] <= SLACK]
            if open_:
                target = min(open_, key=by_class.__getitem__)
                open_.remove(target)
                lower, optimal = self._solve(target, bounds)
                lowers.append(lower)
                solved &= optimal
        return max(certificate, min(lowers) * (1 - SLACK) - SLACK), self.upper, solved

    def _solve(self, target: int, bounds: LayerBounds) -> tuple[float, bool]:
        """A lower bound of the distance to one class, and whether it is the optimum; keeps what example there is."""
        size = float(bounds.ball.eps)
        left = self.deadline - time.monotonic()
        if left <= 0:
            return 0.0, False
        program = _Program(self.network, self.x, self.norm, bounds)
        answer = milp(
            program.objective,
            integrality=program.integrality,
            bounds=program.bounds,
            constraints=program.constraints(target, int(self.y)),
            options={"time_limit": left, "mip_rel_gap": 1e-6},
        )
        if answer.status == 2:  # infeasible: nothing of this class within the ball
            return size, True
        if answer.x is not None:
            self._keep(program.step(answer.x))
        bound = answer.mip_dual_bound
        return (0.0 if bound is None or not np.isfinite(bound) else max(0.0, float(bound))), answer.status == 0

    def _keep(self, step: Vector) -> None:
        """Verify the solver's example, pushed over the boundary it lies on by as little as it takes."""
        delta = torch.as_tensor(step, device=self.x.device).view(self.x.shape)
        pushes = torch.tensor([0.0, *np.geomspace(1e-7, 1e-2, 41)], dtype=torch.float64, device=self.x.device)
        candidates = (self.x.double() + delta * (1 + pushes.view(-1, 1, 1, 1))).float().clamp(0, 1)
        n = len(candidates)
        x, y = self.x.expand(n, -1, -1, -1), self.y.expand(n)
        found = verify(self.module, x, y, candidates, safety=3).distances[self.norm]  # it is to hold among others too
        best = int(found.argmin())
        if found[best] < self.upper:
            self.upper, self.best = float(found[best]), candidates[best : best + 1]


class _Program:
    """The program of one sample and ball; the target class enters with `constraints`.

    Columns: the step from the image (linf: signed; l1: upward and downward parts), the distance (linf only), the output
    of each ReLU, the binary of each ReLU.
    """

    def __init__(self, network: _Network, x: Tensor, norm: ExactNorm, bounds: LayerBounds) -> None:
        self.network, self.norm = network, norm
        size = float(bounds.ball.eps)
        self.image = x.double().flatten().cpu().numpy()
        d = len(self.image)
        below, above = np.minimum(self.image, size), np.minimum(1 - self.image, size)
        widths = {i: len(a.constant) for i, a in network.relus.items()}
        relus = sum(widths.values())
        self.steps = d + 1 if norm == "linf" else 2 * d
        columns = self.steps + 2 * relus
        low, high = np.zeros(columns), np.ones(columns)
        self.objective = np.zeros(columns)
        if norm == "linf":
            low[:d], high[:d], high[d] = -below, above, size
            self.objective[d] = 1
        else:
            high[: 2 * d] = np.concatenate([above, below])
            self.objective[: 2 * d] = 1
        self.columns: dict[int, slice] = {}
        begin = self.steps
        for i, width in widths.items():
            self.columns[i] = slice(begin, begin + width)
            begin += width
        self.relus = relus
        self.integrality = np.zeros(columns)
        self.integrality[self.steps + relus :] = 1
        self._rows: list[LinearConstraint] = self._distance(size)
        for i, layer in network.relus.items():
            z = bounds.intervals[bounds.graph.nodes[i].inputs[0]]
            lower, upper = (t.flatten().cpu().numpy() for t in (z.lower, z.upper))
            at = self.columns[i]
            binary = slice(at.start + relus, at.stop + relus)
            low[at], high[at] = np.maximum(lower, 0), np.maximum(upper, 0)
            low[binary], high[binary] = lower >= 0, upper > 0
            self._rows += self._relu(layer, at, lower, upper)
        self.bounds = Bounds(low, high)

    def _distance(self, size: float) -> list[LinearConstraint]:
        d, columns = len(self.image), len(self.objective)
        if self.norm == "l1":
            total = sparse.csr_array(self.objective[None])
            return [LinearConstraint(total, -np.inf, size)]
        step = sparse.eye_array(d, columns, format="csr")
        largest = sparse.csr_array((np.ones(d), (np.arange(d), np.full(d, d))), shape=(d, columns))
        return [LinearConstraint(sparse.vstack([largest - step, largest + step]), 0, np.inf)]

    def _value(self, layer: _Affine) -> tuple[sparse.csr_array, Vector]:
        """A layer as a matrix over the columns, and its constant at the image."""
        rows, columns = len(layer.constant), len(self.objective)
        d = len(self.image)
        matrix = sparse.lil_array((rows, columns))
        constant = layer.constant
        for i, part in layer.parts.items():
            if i == 0:
                constant = constant + part @ self.image
                matrix[:, :d] = part
                if self.norm == "l1":
                    matrix[:, d : 2 * d] = -part
            else:
                matrix[:, self.columns[i]] = part
        return matrix.tocsr(), constant

    def _relu(self, layer: _Affine, at: slice, lower: Vector, upper: Vector) -> list[LinearConstraint]:
        z, constant = self._value(layer)
        rows, columns = z.shape
        own = np.arange(rows)
        y = sparse.csr_array((np.ones(rows), (own, own + at.start)), shape=(rows, columns))
        a = sparse.csr_array((np.ones(rows), (own, own + at.start + self.relus)), shape=(rows, columns))
        gap = y - z  # y - (z - constant)
        active, mixed = np.flatnonzero(lower >= 0), np.flatnonzero((lower < 0) & (upper > 0))
        by_lower, by_upper = (sparse.diags_array(t) @ a for t in (lower, upper))
        return [
            LinearConstraint(gap[active], constant[active], constant[active]),
            LinearConstraint(gap[mixed], constant[mixed], np.inf),
            LinearConstraint((gap - by_lower)[mixed], -np.inf, (constant - lower)[mixed]),
            LinearConstraint((y - by_upper)[mixed], -np.inf, 0),
        ]

    def constraints(self, target: int, label: int) -> list[LinearConstraint]:
        """All constraints, with the target's logit at or above the label's."""
        logits, constant = self._value(self.network.logits)
        lead = logits[[target]] - logits[[label]]
        return [*self._rows, LinearConstraint(lead, constant[label] - constant[target], np.inf)]

    def step(self, solution: Vector) -> Vector:
        """The step from the image in a solution."""
        d = len(self.image)
        return solution[:d] if self.norm == "linf" else solution[:d] - solution[d : 2 * d]
