"""Chromium for tests of pages: where it is, how it is installed on Debian, and pages opened in it by Playwright.

Playwright's own download of browsers is never used. It would fetch some hundred megabytes that Debian has as a package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Chromium
    from playwright.sync_api import Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_INSTALL = (
    "there is no Chromium on this machine. Install it (Debian: apt-get install chromium) or Google Chrome, "
    "or set CHROMIUM to the path of either."
)
INSTALL = (
    ("apt-get", "-qq", "update"),
    ("apt-get", "-qq", "install", "-y", "--no-install-recommends", "chromium"),
)

# Chromium reports a rejected promise in a task of its own, after the script that rejected it.
SETTLED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"


def find_chromium() -> str | None:
    """The path of Chromium or Google Chrome: $CHROMIUM if it is set, else the first of `PROGRAMS` on the PATH."""
    names = (os.environ["CHROMIUM"],) if os.environ.get("CHROMIUM") else PROGRAMS
    return next((found for name in names if (found := shutil.which(name))), None)


def main() -> int:
    """Install Chromium where it is missing, which takes Debian and root. The exit status is 0 if there is one then."""
    if find_chromium() is None and not os.environ.get("CHROMIUM") and shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing Chromium for the browser tests: apt-get install chromium ...", flush=True)
        for command in INSTALL:
            subprocess.run(command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if find_chromium() is None:
        print(f"The browser tests cannot run: {HOW_TO_INSTALL}", file=sys.stderr)
        return 1
    return 0


WIDTHS = "[innerWidth, document.documentElement.scrollWidth]"  # as seen, as laid out


class Browser:
    """Opens pages in a headless Chromium, one at a time, and collects complaints about them."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self._page: Page | None = None
        self._complaints: list[str] = []

    def open(self, url: str, width: int, *, dark: bool = False, site: str = "", keep: bool = False) -> Page:
        """A loaded page in a context of its own, as a phone shows it if it is narrower than 800 pixels.

        The page that was open before is closed, unless `keep` is set, and the complaints start over. Requests for
        anything but the page are complaints, unless their URLs begin with `site`.
        """
        if self._page is not None and not keep:
            self._page.context.close()
        self._complaints = []
        context = self._chromium.new_context(
            viewport={"width": width, "height": 850},
            device_scale_factor=1,
            is_mobile=width < 800,
            has_touch=width < 800,
            color_scheme="dark" if dark else "light",
        )
        context.set_default_timeout(20_000)  # milliseconds
        # Chromium begins to intercept requests some time after the first `route` of a page has returned, so on a busy
        # machine a request could pass a route that a test had just set. From before the page is loaded none does.
        context.route("**/intercepted-from-the-start", lambda route: route.abort())
        self._page = page = context.new_page()
        page.on("pageerror", lambda error: self._complaints.append(f"exception: {error}"))
        page.on("console", lambda message: self._complaints.append(f"console: {message.type}: {message.text}"))
        page.on("request", lambda request: self._check(request.url, url, site))
        page.goto(url)
        return page

    def complaints(self) -> list[str]:
        """Exceptions, what the page or Chromium wrote to the console, and requests for anything but the page itself."""
        assert self._page is not None, "no page was opened"
        self._page.evaluate(SETTLED)
        return self._complaints

    def _check(self, requested: str, url: str, site: str) -> None:
        own = requested.partition("#")[0] == url.partition("#")[0]
        if not own and not (site and requested.startswith(f"{site}/")):
            self._complaints.append(f"request: {requested}")


if __name__ == "__main__":
    sys.exit(main())
