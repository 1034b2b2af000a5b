"""A review that is opened in the browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Document
from tests.support.arena import make_arena
from tests.support.arena_page import Voting, voting
from tests.support.browser import Browser
from tests.support.driven_review import Opened
from tests.support.review_page import reviewing


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Opens the page of a review for its annotator "ann"."""
    with ExitStack() as stack:

        def start(
            documents: Sequence[Document],
            width: int = 1400,
            *,
            dark: bool = False,
            language: str = "en",
            **options: Any,
        ) -> Opened:
            review, url = stack.enter_context(reviewing(tmp_path, documents, **options))
            asked = "" if language == "en" else f"?language={language}"
            link = f"{url}/{asked}#token={review.sessions.tokens['ann']}"
            page = browser.open(link, width, dark=dark, site=url)
            return Opened(page, review, url)

        yield start


@pytest.fixture
def arena(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Opens the page of an arena for its voter "ann"."""
    with ExitStack() as stack:

        def start(
            width: int = 1400, *, dark: bool = False, language: str = "en", answers: Any = None, **options: Any
        ) -> Voting:
            made = {"num_prompts": options.pop("num_prompts", 4), "documents": options.pop("documents", None)}
            folder = make_arena(tmp_path / "arena", answers=answers, **made)
            room, url = stack.enter_context(voting(folder, **options))
            link = f"{url}/?language={language}#token={room.sessions.tokens['ann']}"
            return Voting(browser.open(link, width, dark=dark, site=url), room, url)

        yield start
