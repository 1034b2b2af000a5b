"""The documentation site: Sphinx with MyST and Furo, built strictly by `make docs-site`.

The pages are plain Markdown, so that they also read well on a code host. The navigation is made from the lists of links
on the index pages, and the build fails if a finished page would load anything from another host.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

project = "Palmette"
author = "The Palmette authors"
extensions = ["myst_parser"]
exclude_patterns = ["generate.py"]
nitpicky = True
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Palmette"
html_copy_source = False
html_show_sphinx = False
pygments_style = "sphinx"

HERE = Path(__file__).parent.resolve()
_HEADING = re.compile(r"^## (.+)$")
_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)\)")
_ENTRY = re.compile(r"^- \[[^\]]+\]\(([\w./-]+)\.md\)")
_LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "audio": "src",
    "video": "src",
    "embed": "src",
    "object": "data",
}
_RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


def toctrees(text: str) -> str:
    """The hidden tables of contents of an index page: one for each of its `##` sections that lists pages.

    >>> print(toctrees("# Home\\n\\n## Guides\\n\\n- [Start](guides/start.md): how to begin.\\n"))
    <BLANKLINE>
    ```{toctree}
    :hidden:
    :caption: Guides
    <BLANKLINE>
    guides/start
    ```
    <BLANKLINE>
    """
    caption, blocks = "", {}
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            caption = heading[1]
        elif entry := _ENTRY.match(line):
            blocks.setdefault(caption, []).append(entry[1])
    return "".join(
        "\n".join(["", "```{toctree}", ":hidden:", f":caption: {name}", "", *pages, "```", ""])
        for name, pages in blocks.items()
    )


def with_downloads(text: str, folder: Path) -> str:
    """A page's text with links to files outside docs/ as downloads, since the site holds docs/ alone; a folder becomes
    its name.

    Args:
        text: the page's Markdown.
        folder: the folder that holds the page.
    """

    def replace(found: re.Match[str]) -> str:
        words, target = found[1].replace("`", ""), (folder / found[2]).resolve()
        if target.is_relative_to(HERE) or not target.exists():
            return found[0]  # a page, or a broken link, which Sphinx reports
        return f"`{words}`" if target.is_dir() else f"{{download}}`{words} <{found[2]}>`"

    return _OUTSIDE.sub(replace, text)


class _Loads(HTMLParser):
    """Collects what a browser would fetch by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address that a tag loads, if it loads one."""
        values = {name: value or "" for name, value in attrs}
        if tag in _LOADS:
            self.addresses.append(values.get(_LOADS[tag], ""))
            self.addresses.extend(part.split()[0] for part in values.get("srcset", "").split(",") if part.strip())
        elif tag == "link" and _RELATIONS & set(values.get("rel", "").lower().split()):
            self.addresses.append(values.get("href", ""))


def foreign_requests(html: str) -> list[str]:
    """Addresses on other hosts that a browser would fetch to show a page; links to follow are not among them."""
    loads = _Loads()
    loads.feed(html)
    return [address for address in loads.addresses if re.match(r"(?i)(?:[a-z][a-z+.-]*:)?//", address)]


def foreign_styles(css: str) -> list[str]:
    """Addresses on other hosts that a style sheet would fetch: imports, fonts, images."""
    return re.findall(r"""(?i)(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", css)


def _prepare(app: Any, name: str, source: list[str]) -> None:
    source[0] = with_downloads(source[0], Path(app.env.doc2path(name)).parent)
    if name == "results" or name.split("/")[-1] == "index":
        source[0] += toctrees(source[0])


def _refuse_foreign_requests(app: Any, error: Exception | None) -> None:
    if error is not None:
        return
    folder = Path(app.outdir)
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("*.css"), *folder.rglob("*.svg")]):
        text = path.read_text(encoding="utf-8")
        found = foreign_requests(text) if path.suffix == ".html" else foreign_styles(text)
        if found:
            raise ValueError(f"{path.relative_to(folder)} would load {found[0]} from another host")


def setup(app: Any) -> None:
    """Connect the two hooks."""
    app.connect("source-read", _prepare)
    app.connect("build-finished", _refuse_foreign_requests)
