"""A browser for the tests of the site, and pages whose complaints and requests are written down."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from loudly import skip_loudly
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Headless Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        skip_loudly("there is no chromium (Debian's package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A page whose complaints and requests are written down."""

    def __init__(self, context: BrowserContext, site: str) -> None:
        self.site = site
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: str, *, ready: str | None = None) -> Page:
        self.page.goto(f"{self.site}/{path}")
        if ready:
            if self.page.locator(f"{ready}[data-later]").count():  # a reader turns to it
                self.page.dispatch_event(ready, "focusin")
            self.page.wait_for_selector(f"{ready}[data-ready]", state="attached")
        return self.page

    def check(self) -> None:
        assert self.complaints == []
        outside = [url for url in self.requests if not url.startswith((self.site, "data:"))]
        assert outside == []


@contextlib.contextmanager
def opened(browser: Browser, site: str, *, width: int = 1440, **options: object) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)  # type: ignore[arg-type]
    context.set_default_timeout(60_000)
    try:
        watched = Watched(context, site)
        yield watched
        watched.check()
    finally:
        context.close()
