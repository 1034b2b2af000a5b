"""Stores in both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from palmette.review.store import Store
from tests.support.databases import postgresql, where  # noqa: F401  # fixtures
from tests.support.reviewing import document


@pytest.fixture
def store(where: str) -> Iterator[Store]:  # noqa: F811  # the fixture
    """A store with one document and three questions."""
    with Store.open(where) as opened:
        opened.add_documents([document()])
        yield opened
