"""A served model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.serving import Serving, answerer_of, serving


@pytest.fixture
def served(fitted_model: Any, tokenizer: Any) -> Iterator[Serving]:
    """A model that has learned a few answers, in float64, under the name "tiny"."""
    with serving({"tiny": answerer_of(fitted_model, tokenizer)}) as started:
        yield started
