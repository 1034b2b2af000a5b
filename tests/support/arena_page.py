"""An arena that is served to a browser, and what its page shows."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from palmette.arena.events import Event
from palmette.arena.folder import read_arena
from palmette.arena.store import VoteStore
from palmette.web.arena.opening import OpenArena, open_arena
from palmette.web.serving import known_names, listen
from tests.support.arena import MODELS
from tests.support.review_page import served


@contextlib.contextmanager
def voting(folder: Path, *, port: int = 0, **options: Any) -> Iterator[tuple[OpenArena, str]]:
    """An arena that is served on this machine, and its address. What is drawn is drawn by a seed."""
    opened = listen("127.0.0.1", port)
    port = opened.getsockname()[1]
    settings: dict[str, Any] = {"voters": ["ann"], "source": random.Random(0), **options}
    with VoteStore.open(folder / "votes.db") as store:
        room = open_arena(store, read_arena(folder), names=known_names("127.0.0.1"), port=port, **settings)
        with served(room.app, opened):
            yield room, f"http://127.0.0.1:{port}"


class Voting:
    """The page of a voter, and the store behind it."""

    def __init__(self, page: Page, room: OpenArena, url: str) -> None:
        self.page, self.room, self.url = page, room, url

    def shown(self) -> None:
        """Wait until a pair is shown."""
        expect(self.page.locator("#pair")).to_be_visible()

    def press(self, key: str, number: int) -> None:
        """Press a key, and wait until so many votes stand, without those that skip."""
        self.page.keyboard.press(key)
        self.wait(number)

    def wait(self, number: int) -> None:
        expect(self.page.locator("#figures span").first).to_have_text(re.compile(rf"^{number} \S"))

    def events(self, *kinds: str) -> list[Event]:
        return [one for one in self.room.desk.ledger._store.events() if one.kind in kinds]

    def votes(self) -> list[str | None]:
        """What was said, in the order in which it was stored."""
        return [one.said for one in self.events("vote")]

    def replies(self) -> tuple[str, str]:
        """The answers on the left and on the right, as they are read."""
        left, right = (self.page.locator(f".answer.{side} .reply").last.text_content() for side in ("left", "right"))
        return str(left), str(right)


def names_shown(at: Voting) -> list[str]:
    """The models whose names the page holds, in any element or attribute."""
    html = at.page.evaluate("document.documentElement.outerHTML").lower()
    return [model for model in MODELS if model.lower() in html]
