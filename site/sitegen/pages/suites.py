"""Sheets of what the corruptions of a suite look like; pages show parts of them."""

from __future__ import annotations

from sitegen.pages import Page, Site
from sitegen.suites import sheet_files


def _make(site: Site) -> dict[str, bytes]:
    datasets = {view.board.dataset.id: view.board.dataset for view in site.views}
    return {path: content for d in datasets.values() for path, content in sheet_files(site.session, d).items()}


PAGE = Page("suites", _make)
