"""What an attack may use of a model, enforced: scores without gradients, labels without scores, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import torch
from torch import Tensor, nn

from benchmark.errors import AccessError, BenchmarkError
from benchmark.memory import out_of_memory
from benchmark.rejection import predicted, rejects

Access = Literal["gradients", "scores", "decisions", "transfer"]
"""What an attack may use of the model it attacks.

=========  ==============================================================================
gradients  everything
scores     its logits
decisions  the label it gives an image, -1 where it rejects it
transfer   nothing: its examples are made on other models
=========  ==============================================================================
"""

_GIVEN: Final[dict[Access, str]] = {
    "scores": "logits without gradients",
    "decisions": "labels, int64 of shape (n,), alone",
    "transfer": "nothing of the model",
}


class LimitedModel(nn.Module):
    """A model seen through an access: no parameters, no gradients, and of its outputs only what is allowed.

    Args:
        model: Images -> logits.
        access: ``scores``, ``decisions`` or ``transfer``.
        attack: Name of the attack, for its errors.
    """

    def __init__(self, model: nn.Module, access: Access, attack: str) -> None:
        super().__init__()
        self._asked: nn.Module
        self.access = access
        self.rejects = rejects(model)
        self._refusal = f"The attack {attack!r} declares the access {access!r}, which gives it {_GIVEN[access]}"
        object.__setattr__(self, "_asked", model)  # no child: its parameters are not among this one's

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, k) of ``x``, or with the access ``decisions`` labels (n,)."""
        if self.access == "transfer":
            raise AccessError(f"{self._refusal}; it must not call it.")
        if x.requires_grad and torch.is_grad_enabled():
            raise AccessError(f"{self._refusal}; it asks for a gradient in the images.")
        with torch.no_grad():
            logits: Tensor = self._asked(x)
            return predicted(logits, reject=self.rejects) if self.access == "decisions" else logits.detach()

    def explained(self, error: Exception) -> AccessError:
        """An error of the attack in words that name its access."""
        return AccessError(f"{self._refusal}. It failed with {type(error).__name__}: {error}.")


@contextmanager
def limited(model: nn.Module, access: Access, attack: str) -> Iterator[nn.Module]:
    """The model as an attack may see it.

    Raises:
        AccessError: If the attack fails at what it is not given.
        BenchmarkError: If there is no such access.
    """
    if access == "gradients":
        yield model
        return
    if access not in _GIVEN:
        raise BenchmarkError(
            f"The attack {attack!r} declares the access {access!r}; it is gradients, {', '.join(_GIVEN)}."
        )
    seen = LimitedModel(model, access, attack).eval()
    try:
        yield seen
    except BenchmarkError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
        if out_of_memory(error):
            raise
        raise seen.explained(error) from error
