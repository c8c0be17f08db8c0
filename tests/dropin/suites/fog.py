"""Images under more and more fog, from two sides."""

from dataclasses import dataclass

from benchmark.data.suites import Suite
from benchmark.results import GridAxis


@dataclass(frozen=True, eq=False, kw_only=True)
class Fog(Suite):
    def batch(self, cell, start, stop):
        x, y = self.base.batch(start, stop)
        colour, share = {"white": 1.0, "black": 0.0}[cell[0]], int(cell[1]) / 4
        return x + share * (colour - x), y


SUITE = Fog(
    name="fog",
    title="Fog of two colours",
    version=1,
    axes=(GridAxis("colour", ("white", "black")), GridAxis("severity", ("1", "2", "3"))),
)
