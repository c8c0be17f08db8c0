"""Cross-entropy with smoothed labels."""

from dataclasses import dataclass

from torch.nn.functional import cross_entropy

from models_zoo.training.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    smoothing: float = 0.1


class Smoothed(Recipe[Settings]):
    name = "smoothed"
    title = "Smoothed labels"
    Parameters = Settings

    def objective(self, step, perturbed, parameters):
        return cross_entropy(step.network(perturbed), step.y, label_smoothing=parameters.smoothing)


RECIPE = Smoothed()
