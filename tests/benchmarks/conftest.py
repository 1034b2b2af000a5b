"""The benchmark of preferences, loaded beside nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.support.benchmarks import NAMES
from tests.support.scripts import benchmark_scripts


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmark's modules."""
    with benchmark_scripts(NAMES) as modules:
        yield modules
