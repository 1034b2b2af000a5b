"""The garbage collector is off during imports, and as it was before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from palmette.startup import quick_imports


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector is left as it was."""
    was_on = gc.isenabled()
    yield
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_off_inside_and_as_before_outside(on: bool) -> None:
    (gc.enable if on else gc.disable)()
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled() == on


def test_an_import_that_fails_leaves_it_on() -> None:
    gc.enable()
    with pytest.raises(ImportError), quick_imports(freeze=True):
        raise ImportError
    assert gc.isenabled()


def test_what_exists_stays_out_of_its_sight() -> None:
    before = gc.get_freeze_count()
    with quick_imports(freeze=True):
        kept = [[] for _ in range(1000)]
    assert gc.get_freeze_count() >= before + len(kept)
