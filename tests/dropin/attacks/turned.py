"""Mixes each image with its own transpose, in steps: of stripes this is the other class."""

import torch

from benchmark.attacks import Attack, AttackResult


def turned(model, x, y, *, norm, effort, seed, pool):
    best = x.clone()
    with torch.no_grad():
        missed = model(x).argmax(1) != y
        for k in range(1, 101):
            mixed = x + k / 100 * (x.transpose(2, 3) - x)
            first = ~missed & (model(mixed).argmax(1) != y)
            best[first] = mixed[first]
            missed |= first
    return AttackResult(best)


ATTACK = Attack(
    name="turned",
    version=1,
    title="Towards its own transpose",
    paper="a paper of the drop-in test",
    run=turned,
    access="scores",
)
