"""The mean absolute change of a value."""

from benchmark.threat.geometry import Geometry


class MeanChange(Geometry):
    name = "mean_change"
    symbol = "mean |δ|"
    title = "mean change of a value"
    order = 50

    def size(self, delta):
        return delta.flatten(1).abs().mean(dim=1)


NORM = MeanChange()
