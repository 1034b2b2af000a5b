"""A review in a browser: its page, its store, and where its texts stand on the screen."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from palmette.data.records import Document
from palmette.review.events import Event
from palmette.web.review.opening import Review
from tests.support.review_page import question


class Opened:
    """The page of an annotator, and the store behind it."""

    def __init__(self, page: Page, review: Review, url: str) -> None:
        self.page, self.review, self.url = page, review, url

    def events(self, *kinds: str) -> list[Event]:
        return [one for one in self.review.desk._store.events() if one.kind in kinds]

    def verdicts(self) -> list[tuple[str, str | None]]:
        """(kind, text of the span) of every verdict, in the order in which they were stored."""
        found = [one.verdict for one in self.events("verdict") if one.verdict is not None]
        return [(one.kind, one.span.text if one.span else None) for one in found]

    def shown(self) -> None:
        """Wait until a question is shown."""
        expect(self.page.locator("#question")).to_be_visible()

    def press(self, key: str, judged: int) -> None:
        """Press a key, and wait until so many questions are judged."""
        self.page.keyboard.press(key)
        self.wait(judged)

    def wait(self, judged: int) -> None:
        expect(self.page.locator("#figures")).to_contain_text(re.compile(rf"^{judged} of"))

    @property
    def chosen(self) -> str:
        return str(self.page.locator("#chosen").text_content())

    def edit(self, *keys: str) -> str:
        """Press keys, beginning with E. What is chosen then."""
        for key in ("e", *keys):
            self.page.keyboard.press(key)
        return self.chosen


def boats(number: int) -> list[Document]:
    """Documents with a question each, with two suggestions: "pier 3" and "noon"."""
    text = "The boat leaves from pier 3 at noon."
    return [
        Document(f"d{n}", f"{text} {n}", (question(f"q{n}", f"Where, {n}?", text, "pier 3", "noon"),))
        for n in range(number)
    ]


def box_of(page: Page, text: str) -> tuple[float, float, float]:
    """Left, right and middle height of a text within the document on the page."""
    found = page.evaluate(
        """(wanted) => {
          const walker = document.createTreeWalker(document.getElementById("passage"), NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            const at = node.data.indexOf(wanted);
            if (at < 0) continue;
            const range = document.createRange();
            range.setStart(node, at);
            range.setEnd(node, at + wanted.length);
            const box = range.getBoundingClientRect();
            return [box.left, box.right, (box.top + box.bottom) / 2];
          }
          return null;
        }""",
        text,
    )
    assert found is not None, text
    return found[0], found[1], found[2]


def drag(page: Page, first: tuple[float, float], last: tuple[float, float]) -> None:
    page.mouse.move(*first)
    page.mouse.down()
    page.mouse.move((first[0] + last[0]) / 2, last[1])
    page.mouse.move(*last)
    page.mouse.up()
