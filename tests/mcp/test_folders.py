"""Names of documents that no file system takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmette.errors import DataError
from palmette.mcp.folders import Folders


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 3000 + "a"])
def test_a_name_that_is_too_long_is_refused_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be looked up: .*too long") as refused:
        Folders([tmp_path]).find(name)
    assert len(str(refused.value)) < 500
