"""The one place where adversarial examples are believed.

Nothing an attack, AutoAttack, a solver or a stranger claims enters a curve or the ledger before `verify` has
re-checked it: finite, in the box, goal reached by the model in eval mode, distance measured again.

What is believed must hold on any machine, in any batch and in float64. A float32 lead is therefore compared with its
own rounding: relative to the two logits that decide (the label's and its rival's, never the largest: a masked class at
-1e9 says nothing about them), and as measured against the model's float64 twin, since large hidden values that a later
bias cancels leave no trace in the logits. Where there is no twin, the images are asked again one at a time.

A model whose output differs between two identical calls is *randomised*: the classifier that is judged is then the one
of its expected logits, and an example holds when the mean lead over repeated calls exceeds zero by three standard
errors. One lucky draw proves nothing.

Of a model that may *reject* an image, an example must be given a wrong class and not be rejected; a clean image that is
rejected is misclassified (`benchmark.rejection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.errors import InputError
from benchmark.inputs import check_logits
from benchmark.modes import eval_mode, full_precision, same_draws
from benchmark.rejection import defender, rejects, rivals_only
from benchmark.rejection import predicted as predicted_class
from benchmark.threat import Norm, in_box, norms
from benchmark.twin import double_logits, is_randomised, twin_of

SLACK: Final = 2.0**-18
"""How far, relative to the larger of the two deciding logits, the winner must lead.

float32 logits of one image differ by about 1e-6 between batch sizes and machines. An example whose lead is
smaller than this could be refuted by re-checking it elsewhere, so it proves nothing.
"""

OWN_ROUNDING: Final = 2.0
"""How many times an image's own measured rounding its lead must exceed, in float32 and in float64."""

TYPICAL_ROUNDING: Final = 8.0
"""How many times the median rounding of the images checked with it, besides: one image's may be small by luck. Of
errors that are normally distributed, one in ten million is as large."""

DIFFERENT: Final = 0.01
"""A twin whose leads are typically off by more than this share of what parts the classes is another model."""

ERRORS: Final = 3.0
"""Standard errors of the mean lead of a randomised model by which it must exceed zero."""

REPEATS: Final = 20
"""Calls an image when a randomised model is verified."""

_COMPANIONS: Final = 16
"""Images on the way from clean ones to their candidates that are passed with the candidates, about: to see the rounding
where candidates are few, and to make the batch another than the one that was judged first."""

REASONS: Final = (
    "holds",
    "not finite",
    "outside the box [0, 1]",
    "the label does not change",
    "the label changes only within floating-point slack",
    "the target class is not reached",
    "the model rejects it",
)
WITHIN_SLACK: Final = 4
"""Index of the reason that a little more of the same perturbation mends."""


@dataclass(frozen=True)
class Verification:
    """What re-checking found.

    Attributes:
        distances: For each registered norm the distance of each sample, shape (n,), float64, on the CPU: 0 where the
            clean image is at the goal already (misclassified; with targets: classified as the target), ``inf`` where
            the candidate does not hold.
        holds: Candidates that are adversarial examples, shape (n,), bool. A clean image at the goal needs none and has
            ``False``.
        reason: Index into `REASONS` for each candidate, shape (n,), int64.
        correct: Whether the clean image is classified correctly, shape (n,), bool.
        randomised: Whether the model's output differs between two identical calls.
    """

    distances: dict[Norm, Tensor]
    holds: Tensor
    reason: Tensor
    correct: Tensor
    randomised: bool = False


def verify(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    candidates: Tensor,
    *,
    targets: Tensor | None = None,
    batch_size: int = 500,
    safety: float = 1.0,
) -> Verification:
    """Re-check candidate adversarial examples with forward passes only.

    Args:
        model: Classifier of images in [0, 1]; it is put into eval mode for the check.
        x: Clean images, shape (n, c, h, w), float32.
        y: Labels, shape (n,), int64.
        candidates: Claimed adversarial examples, shape of ``x``; a row that is none is any row that does not hold.
        targets: The class that each candidate is to be given, shape (n,), int64; any but the label if left out.
        batch_size: Images a forward pass.
        safety: How many times the measured rounding, or the standard errors of a randomised model, are held against a
            candidate. Who checks beforehand gives more than 1, since both are measured anew among other images.

    Returns:
        The verdict for each sample.

    Raises:
        InputError: If the shapes or types do not fit together, a target is the label or no class, or the model's logits
            on a clean image are not finite: a crash of the machinery is never read as robustness.
        UnsupportedModelError: If the model returns no logits of at least two classes.
    """
    _check_shapes(x, y, candidates, targets)
    finite = torch.isfinite(candidates.flatten(1)).all(dim=1)
    boxed, reject = in_box(candidates), rejects(model)
    shown = torch.where(boxed.view(-1, *[1] * (x.ndim - 1)), candidates, x)
    with eval_mode(model), torch.no_grad(), same_draws(x.device), full_precision():
        randomised = is_randomised(model, x[:batch_size])
        calls = REPEATS if randomised else 1
        clean = _calls(model, x, calls, batch_size)
        if len(x):
            check_logits(clean[0], len(x), reject=reject)
        refuse_non_finite(clean[0], first=0)
        check_classes(y, targets, clean.shape[2] - reject)
        predicted = clean.mean(dim=0).argmax(dim=1)
        reached = predicted != y if targets is None else predicted == targets
        logits = _calls(model, shown, calls, batch_size)
        lead = mean_lead(logits, y, targets=targets, errors=ERRORS * safety, reject=reject)
        rounding = SLACK * deciding_size(logits.mean(dim=0), y, targets=targets, reject=reject)
        rows = ((lead > rounding) & boxed & ~reached).nonzero().squeeze(1)
        clear = torch.zeros_like(boxed)
        clear[rows] = True
        if len(rows) and not randomised:
            judge = _Judge(model, y[rows], None if targets is None else targets[rows], batch_size, safety)
            clear[rows] = judge.confirm(shown[rows], lead[rows], rounding[rows], x[rows], clean[0, rows])
    reason = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    reason[~(clear | reached)] = WITHIN_SLACK
    reason[reached & ~(lead > rounding)] = WITHIN_SLACK  # at the goal from the start: told without the second pass
    reason[~(lead > 0)] = 3 if targets is None else 5
    reason[(reason == 3) & (predicted_class(logits.mean(dim=0), reject=reject) < 0)] = 6
    reason[~boxed] = 2
    reason[~finite] = 1
    holds = (reason == 0) & ~reached
    measured = {}
    for norm in norms():
        d = norm.distance(x, shown)
        d[~holds] = torch.inf
        d[reached] = 0.0
        measured[norm.name] = d.cpu()
    return Verification(measured, holds.cpu(), reason.cpu(), (predicted == y).cpu(), randomised)


class _Judge:
    """Asks a deterministic model again, otherwise than before, about candidates whose label has changed.

    Args:
        model: In eval mode.
        y: Labels, shape (m,).
        targets: Wanted classes, shape (m,), or None.
        batch_size: Images a pass.
        safety: As of `verify`.
    """

    def __init__(self, model: nn.Module, y: Tensor, targets: Tensor | None, batch_size: int, safety: float) -> None:
        self.model, self.y, self.targets, self.batch_size = model, y, targets, batch_size
        self.safety, self.reject = safety, rejects(model)

    def lead(self, logits: Tensor, rows: slice = slice(None)) -> Tensor:
        """The lead in these logits (m, k) of some of the images, shape (m,)."""
        targets = None if self.targets is None else self.targets[rows]
        return mean_lead(logits[None], self.y[rows], targets=targets, reject=self.reject)

    def confirm(self, images: Tensor, lead: Tensor, least: Tensor, x: Tensor, clean: Tensor) -> Tensor:
        """Which candidates hold whatever the batch, the machine and the precision.

        Args:
            images: The candidates, shape (m, c, h, w).
            lead: Their leads as first seen, shape (m,).
            least: What they must exceed at any rate, shape (m,).
            x: Their clean images.
            clean: Logits of these, shape (m, k).

        Returns:
            Shape (m,), bool.
        """
        few = slice(0, _COMPANIONS // 2)
        each = -(-_COMPANIONS // len(x[few]))  # of one candidate's way as many points as of eight candidates' together
        beside = [torch.lerp(x[few], images[few], k / each) for k in range(each)]
        logits = [clean[few], *torch.split(self.model(torch.cat(beside[1:])), len(x[few]))]
        seen = torch.cat([self.lead(one, few) for one in logits])
        twice = self._in_double(images, beside)
        if twice is not None:
            off = (twice[1] - seen).abs()
            if bool(off.median() <= DIFFERENT * _gaps(torch.cat(logits), self.y[few].repeat(each)).median()):
                return self._exceeds(lead, twice[0], least, off)
        return self._alone(images, lead, least, beside, seen)

    def _in_double(self, images: Tensor, beside: list[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Leads of candidates and companions by the float64 twin, in other batches; None where there is no twin."""
        twin, few = twin_of(self.model), slice(0, len(beside[0]))
        leads, companions, extra = [], None, few.stop * len(beside)
        for i in reversed(range(0, len(images), self.batch_size)):
            part = images[i : i + self.batch_size]
            logits = double_logits(twin, torch.cat([*beside, part.flip(0)]))
            if logits is None:
                return None
            rows = slice(i, i + len(part))
            leads.append(self.lead(logits[extra:].flip(0), rows))
            companions = torch.cat([self.lead(one, few) for one in torch.split(logits[:extra], few.stop)])
        assert companions is not None  # there is at least one image
        return torch.cat(leads[::-1]), companions

    def _alone(self, images: Tensor, lead: Tensor, least: Tensor, beside: list[Tensor], seen: Tensor) -> Tensor:
        """Without a twin: each image by itself, and all of them in another order; of few their companions, too."""
        alone = self.lead(torch.cat([self.model(image[None]) for image in images]))
        turned = torch.cat([self.model(part) for part in torch.split(images.flip(0), max(1, self.batch_size // 2))])
        again = self.lead(turned.flip(0))
        spread = torch.maximum((alone - lead).abs(), (again - lead).abs())
        if len(images) < _COMPANIONS // 2:
            singly = [torch.cat([self.model(image[None]) for image in part]) for part in beside]
            companions = torch.cat([self.lead(one, slice(0, len(one))) for one in singly])
            spread = torch.cat([spread, (companions - seen).abs()])
        worst = torch.minimum(alone, again)
        return self._exceeds(lead, worst, least, spread)

    def _exceeds(self, lead: Tensor, again: Tensor, least: Tensor, typical: Tensor) -> Tensor:
        """Whether both leads (m,) exceed the rounding; ``typical`` are further measurements of it, shape (any,)."""
        off = (again - lead).abs()
        known = torch.cat([off.double(), typical.double()])
        known = known[torch.isfinite(known)]
        common = known.median() if len(known) else torch.zeros((), dtype=torch.float64, device=lead.device)
        rounding = OWN_ROUNDING * off + TYPICAL_ROUNDING * common
        return torch.minimum(lead, again) > least + self.safety * rounding


def _gaps(logits: Tensor, y: Tensor) -> Tensor:
    """How far a middling class is from the label in logits (m, k), shape (m,): what a twin is to reproduce.

    Not the lead, which is next to nothing on an image at the boundary; nor the farthest class, which may be masked.
    """
    gaps = (logits - logits.gather(1, y[:, None])).abs()
    return gaps.scatter(1, y[:, None], torch.nan).nanmedian(dim=1).values


def needed_lead(model: nn.Module, x: Tensor, y: Tensor, *, most: int = 32) -> float:
    """What an attack should ask for beyond `SLACK`, in logits, so that `verify` mostly believes it.

    That is what `verify` would ask for if nearly the largest rounding of these images were the typical one.

    Args:
        model: In eval mode.
        x: Images, shape (n, c, h, w); the first few are looked at.
        y: Labels, shape (n,).
        most: How many.
    """
    few, lead = x[:most], partial(mean_lead, labels=y[:most], reject=rejects(model))
    with torch.no_grad(), full_precision():
        logits = model(few)
        seen = lead(logits[None])
        exact = double_logits(twin_of(model), few)
        truth = seen if exact is None else lead(exact[None])
        if exact is None or bool((truth - seen).abs().median() > DIFFERENT * _gaps(logits, y[:most]).median()):
            truth = lead(torch.cat([model(image[None]) for image in few])[None])
    off = (truth - seen).abs()[(truth < 0) & torch.isfinite(truth - seen)]  # of what is attacked
    return float((OWN_ROUNDING + TYPICAL_ROUNDING) * off.quantile(0.9)) if len(off) else 0.0


def _calls(model: nn.Module, images: Tensor, calls: int, batch_size: int) -> Tensor:
    """Logits of so many calls, shape (calls, n, k)."""
    parts = [torch.stack([model(part) for _ in range(calls)]) for part in torch.split(images, batch_size)]
    return torch.cat(parts, dim=1)


def _check_shapes(x: Tensor, y: Tensor, candidates: Tensor, targets: Tensor | None) -> None:
    if candidates.shape != x.shape:
        raise InputError(
            f"Candidates have shape {tuple(candidates.shape)}, the images {tuple(x.shape)}; they must be equal."
        )
    if candidates.dtype != torch.float32:
        raise InputError(f"Candidates are {candidates.dtype}; adversarial examples are stored and checked as float32.")
    for name, classes in (("Labels", y), ("Targets", targets)):
        if classes is not None and (classes.shape != x.shape[:1] or classes.dtype != torch.int64):
            raise InputError(
                f"{name} have shape {tuple(classes.shape)} and type {classes.dtype}; needed: ({len(x)},), int64."
            )


def check_classes(y: Tensor, targets: Tensor | None, classes: int) -> None:
    """Raise `InputError` where a label or target (n,) is no class, or a target is the label."""
    for name, given in (("label", y), ("target", targets)):
        bad = None if given is None else ((given < 0) | (given >= classes)).nonzero()
        if given is not None and bad is not None and len(bad):
            row = int(bad[0])
            raise InputError(
                f"The {name} of sample {row} is {int(given[row])}; the model has classes 0 to {classes - 1}."
            )
    if targets is not None and bool((targets == y).any()):
        row = int((targets == y).nonzero()[0])
        raise InputError(f"The target of sample {row} is its label, {int(y[row])}; name another class.")


def deciding(
    logits: Tensor, labels: Tensor, targets: Tensor | None = None, *, reject: bool = False
) -> tuple[Tensor, Tensor]:
    """The two classes that decide: who must win, and over whom.

    Args:
        logits: Shape (n, k).
        labels: Shape (n,).
        targets: Shape (n,); any class but the label if left out.
        reject: Whether the last logit rejects; it defends the label then, and is no class.

    Returns:
        The winner (the best other class than the label; the target) and the loser (the label; the best other class than
        the target; the rejecting logit where it is larger), both of shape (n,), int64.
    """
    if targets is not None:
        return targets, logits.scatter(1, targets[:, None], -torch.inf).argmax(dim=1)
    rival = rivals_only(logits.clone(), labels, reject=reject).argmax(dim=1)
    return rival, defender(logits, labels, reject=reject)


def deciding_size(logits: Tensor, labels: Tensor, targets: Tensor | None = None, *, reject: bool = False) -> Tensor:
    """The larger absolute value of the two deciding logits, shape (n,): what their rounding is relative to."""
    classes = torch.stack(deciding(logits, labels, targets, reject=reject), dim=1)
    return logits.gather(1, classes).abs().amax(dim=1)


def mean_lead(
    logits: Tensor, labels: Tensor, *, targets: Tensor | None = None, errors: float = ERRORS, reject: bool = False
) -> Tensor:
    """How far the winner leads the loser (see `deciding`), in the mean of repeated calls less some standard errors.

    Args:
        logits: Logits of each call, shape (calls, n, k); NaN logits lead nowhere.
        labels: Shape (n,).
        targets: Shape (n,); any class but the label if left out.
        errors: How many standard errors of the mean are taken off; none of a single call.
        reject: Whether the last logit rejects.

    Returns:
        Shape (n,).
    """
    mean = logits.mean(dim=0) if len(logits) > 1 else logits[0]
    classes = torch.stack(deciding(mean, labels, targets, reject=reject), dim=1)
    ahead, behind = mean.gather(1, classes).unbind(dim=1)
    lead = ahead - behind
    if len(logits) > 1:
        best, own = logits.gather(2, classes.expand(len(logits), -1, -1)).unbind(dim=2)
        lead = lead - errors * (best - own).std(dim=0) / len(logits) ** 0.5
    return torch.where(torch.isnan(mean).any(dim=1), torch.nan, lead)


def refuse_non_finite(logits: Tensor, *, first: int) -> None:
    """Raise `InputError` where the logits (n, k) of clean images, the first of index ``first``, are not finite."""
    bad = ~torch.isfinite(logits).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"The model gives logits that are not finite on {int(bad.sum())} clean images of this batch, "
            f"first on image {first + row}: {logits[row].tolist()}. Repair the model before evaluating it."
        )
