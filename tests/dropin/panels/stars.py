"""Stars: a kind of output of our own."""

from sitegen.panels import Panel
from sitegen.records import Cell


class Stars(Panel):
    name = "stars"
    template = "panels/stars.html"

    def show(self, found, row):
        return [(one.output.title, self.cell(one, row).text) for one in found]

    def cell(self, found, row):
        value = self.fields(found, row)[""]
        return Cell("★" * int(value or 0), "", value)

    def fields(self, found, row):
        return {"": found.score.value if found.score else None}


PANEL = Stars()
