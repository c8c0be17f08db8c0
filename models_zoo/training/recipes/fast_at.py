"""Fast adversarial training (Wong, Rice & Kolter 2020, arXiv:2001.03994): one step from a random start."""

from __future__ import annotations

from dataclasses import dataclass

from models_zoo.training.recipes.pgd_at import PgdAt, PgdParameters
from models_zoo.training.settings import Settings


@dataclass(frozen=True)
class FastParameters(PgdParameters):
    """Parameters of `FastAt`: one step of 1.25·eps."""

    steps: int = 1
    step: float | None = None

    @property
    def length(self) -> float:
        """Length of the step."""
        return 1.25 * self.eps if self.step is None else self.step


class FastAt(PgdAt):
    """Single-step adversarial training.

    It is prone to *catastrophic overfitting*: within an epoch the network learns to defeat the single step alone. The
    loop watches for it wherever there are validation samples; ``keep = "best"`` takes the weights from before.
    """

    name = "fast-at"
    title = "Fast adversarial training"
    paper = "https://arxiv.org/abs/2001.03994"
    settings = Settings(epochs=30, lr=0.2, weight_decay=5e-4, augmentation="crop-flip", validation=1000, keep="best")
    Parameters = FastParameters


RECIPE = FastAt()
