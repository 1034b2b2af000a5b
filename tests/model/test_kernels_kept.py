"""How many compiled kernels a server keeps."""

from __future__ import annotations

import os

import pytest

from palmette.model.conditions import conditions
from palmette.model.memory import KERNELS_KEPT, keep_few_kernels


def test_few_kernels_are_kept_and_nothing_that_numbers_depend_on_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KERNELS_KEPT, raising=False)
    before = conditions()
    monkeypatch.setenv(KERNELS_KEPT, "1000")
    keep_few_kernels()
    assert os.environ[KERNELS_KEPT] == "1000"  # as the user has set it
    monkeypatch.delenv(KERNELS_KEPT)
    keep_few_kernels()
    assert os.environ[KERNELS_KEPT] == "64"
    assert conditions() == before
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert conditions() != before
