"""The user's cache: entries that were used last stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

from palmette.cache import cache_folder, make_room, mark_used, remove_abandoned


def entry(folder: Path, name: str, size: int, age: float) -> Path:
    path = folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("PALMETTE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "palmette"
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    old, middle, new = (entry(tmp_path, name, 100, age) for name, age in (("a", 30), ("b", 20), ("c", 10)))
    mark_used(old)
    assert make_room(tmp_path, 200) == [middle]
    assert sorted(tmp_path.iterdir()) == [old, new]


def test_an_entry_to_keep_stays_whatever_its_size(tmp_path):
    old, new = entry(tmp_path, "a", 100, 30), entry(tmp_path, "b", 100, 10)
    assert make_room(tmp_path, 50, keep=old) == [new]


def test_a_folder_counts_with_all_that_it_holds(tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    entry(tmp_path / "folder" / "deep", "a", 100, 0)
    os.utime(tmp_path / "folder", (0, 0))
    small = entry(tmp_path, "b", 10, 0)
    assert make_room(tmp_path, 109) == [tmp_path / "folder"]
    assert list(tmp_path.iterdir()) == [small]


def test_what_is_being_written_is_left_alone_until_it_is_old(tmp_path):
    young, old = entry(tmp_path, ".young", 100, 10), entry(tmp_path, ".old", 100, 2 * 24 * 3600)
    assert make_room(tmp_path, 0) == []
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [young], old


def test_no_folder_is_no_error(tmp_path):
    assert make_room(tmp_path / "none", 0) == []
    remove_abandoned(tmp_path / "none")
