"""The contestants: our engine, and attacks of other libraries with their authors' settings.

Each peer comes from its own library, which is imported only in the process that runs it. All are given the images that
the model classifies correctly, and return candidates; what holds is decided, and its distance measured, by
`benchmark.verification` for all alike. Where a library leaves a parameter to the user, the value is stated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmark.errors import UnknownNameError
from benchmark.threat import Norm, distances

NORMS = ("linf", "l2", "l1")

Search = Callable[[nn.Module, Tensor, Tensor, Norm], Any]
"""``(model, x, y, norm) -> candidates``, a tensor of the shape of ``x``; the libraries are untyped."""

_ORDER: Final[dict[str, float]] = {"linf": float("inf"), "l2": 2, "l1": 1}


@dataclass(frozen=True)
class Peer:
    """An attack of another library.

    Attributes:
        name: Its name on the command line and in the tables.
        library: The library it comes from.
        settings: What it is run with.
        run: The attack.
        norms: The norms it minimises.
        default: Whether it is run when nothing is named.
    """

    name: str
    library: str
    settings: str
    run: Search
    norms: tuple[Norm, ...] = NORMS
    default: bool = True


def _fab_t(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks import fab  # type: ignore[import-not-found]

    return fab(model, x, y, norm=_ORDER[norm], n_iter=50, targeted_restarts=True)


def _pdpgd(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks import pdpgd

    return pdpgd(model, x, y, norm=_ORDER[norm], num_steps=500)


def _apgd_search(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks.auto_pgd import minimal_apgd  # type: ignore[import-not-found]

    largest = _largest_eps(x, norm)
    return minimal_apgd(model, x, y, norm=_ORDER[norm], max_eps=largest, binary_search_steps=10, n_iter=50)


def _fmn(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks import fmn

    return fmn(model, x, y, norm=_ORDER[norm], steps=300)


def _ddn(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks import ddn

    return ddn(model, x, y, steps=300, levels=None)


def _alma(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks import alma

    first_step = {"l2": 1.0, "l1": 10.0}[norm]
    return alma(model, x, y, distance=norm, num_steps=1000, init_lr_distance=first_step)


def _fab(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from pyautoattack.fab_pt import FABAttack_PT

    attack = FABAttack_PT(
        model, norm=norm.capitalize(), eps=1e9, n_iter=100, n_restarts=1, seed=0, device=x.device, targeted=False
    )
    return attack.perturb(x, y)


def _foolbox(model: nn.Module, x: Tensor) -> Any:
    import foolbox  # type: ignore[import-not-found]

    return foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)


def _foolbox_ddn(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    import foolbox

    return foolbox.attacks.DDNAttack(steps=300)(_foolbox(model, x), x, y, epsilons=None)[0]


def _carlini_wagner(binary: int, steps: int, **settings: float) -> Search:
    def run(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
        import foolbox

        attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=binary, steps=steps, **settings)
        return attack(_foolbox(model, x), x, y, epsilons=None)[0]

    return run


def _ead(binary: int, steps: int, **settings: Any) -> Search:
    def run(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
        import foolbox

        attack = foolbox.attacks.EADAttack(binary_search_steps=binary, steps=steps, **settings)
        return attack(_foolbox(model, x), x, y, epsilons=None)[0]

    return run


def _pgd_grid(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    """PGD at each of 20 budgets, the nearest success kept; foolbox runs the budgets one after the other."""
    import foolbox

    names = {"linf": "LinfPGD", "l2": "L2PGD", "l1": "L1PGD"}
    largest = _largest_eps(x, norm)
    grid = torch.logspace(-2, 0, 20).mul(largest).tolist()
    attack = getattr(foolbox.attacks, names[norm])(steps=40)
    _, clipped, success = attack(_foolbox(model, x), x, y, epsilons=grid)
    best, nearest = x.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for candidates, worked in zip(clipped, success, strict=True):
        reached = torch.where(worked, distances(x, candidates, norm), torch.inf)
        closer = reached < nearest
        best[closer], nearest[closer] = candidates[closer], reached[closer]
    return best


def _paper(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    """What the robustness-curves paper ran (foolbox 2): C&W and EAD with 10 × 1000 steps; PGD for linf."""
    if norm == "l2":
        return _carlini_wagner(10, 1000, stepsize=5e-3, initial_const=1e-2)(model, x, y, norm)
    if norm == "l1":
        return _ead(10, 1000, initial_stepsize=1e-2, initial_const=1e-2, decision_rule="EN")(model, x, y, norm)
    return _pgd_grid(model, x, y, norm)


def _sigma_zero(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks import sigma_zero

    return sigma_zero(model, x, y, num_steps=1000)


def _fmn_l0(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks import fmn

    return fmn(model, x, y, norm=0, steps=1000)


def _vfga(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    from adv_lib.attacks import vfga

    return vfga(model, x, y, targeted=False)


def _largest_eps(x: Tensor, norm: Norm) -> float:
    """Where a search over eps ends; 28 × 28: linf 0.5, l2 5.6, l1 39; 3 × 32 × 32: linf 0.5, l2 11, l1 154."""
    size = x[0].numel()
    return {"linf": 0.5, "l2": 0.2 * math.sqrt(size), "l1": 0.05 * size}[norm]


PEERS: Final = (
    Peer("fab-t", "adv-lib", "50 iterations × 9 targets", _fab_t),
    Peer("pdpgd", "adv-lib", "500 steps", _pdpgd),
    Peer("apgd-search", "adv-lib", "10 bisections × 50 steps, DLR", _apgd_search),
    Peer("fmn", "adv-lib", "300 steps", _fmn),
    Peer("ddn", "adv-lib", "300 steps, no quantisation", _ddn, ("l2",)),
    Peer("alma", "adv-lib", "1000 steps, first step 1 (l2), 10 (l1)", _alma, ("l2", "l1")),
    Peer("fab", "pyautoattack", "100 iterations, untargeted", _fab),
    Peer("foolbox-ddn", "foolbox", "300 steps", _foolbox_ddn, ("l2",)),
    Peer("foolbox-cw", "foolbox", "5 × 200 steps", _carlini_wagner(5, 200, initial_const=1e-1), ("l2",)),
    Peer("foolbox-ead", "foolbox", "5 × 200 steps", _ead(5, 200, initial_const=1e-1, decision_rule="L1"), ("l1",)),
    Peer("foolbox-pgd", "foolbox", "20 budgets × 40 steps", _pgd_grid),
    Peer("robustness-curves", "foolbox", "C&W, EAD 10 × 1000 steps; PGD", _paper, ("l2", "l1"), default=False),
    Peer("sigma-zero", "adv-lib", "1000 steps", _sigma_zero, ("l0",)),
    Peer("fmn-l0", "adv-lib", "1000 steps", _fmn_l0, ("l0",)),
    Peer("vfga", "adv-lib", "until it succeeds, 10 samples a step", _vfga, ("l0",)),
)


def peers(norm: Norm, names: tuple[str, ...] | None = None) -> list[Peer]:
    """The peers that minimise a norm: the default ones, or those named.

    Raises:
        UnknownNameError: If a name is no peer's.
    """
    known = {peer.name: peer for peer in PEERS}
    for name in names or ():
        if name not in known:
            raise UnknownNameError("peer", name, known)
    return [peer for peer in PEERS if norm in peer.norms and (peer.default if names is None else peer.name in names)]
