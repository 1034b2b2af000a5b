"""The user's cache: entries that were used last stay."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from palmette.cache import (
    cache_folder,
    file_hash,
    is_trusted,
    kept_hash,
    make_room,
    mark_used,
    remove_abandoned,
    write_whole,
)


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


def test_a_hash_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    """The values are those of `printf a | sha256sum` and `printf b | sha256sum`."""
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("palmette.cache._YOUNG", -1.0)
    file = tmp_path / "file"
    file.write_text("a")
    a, b = (
        "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
    )
    assert file_hash(file) == a
    (kept,) = (tmp_path / "cache" / "hashes").iterdir()
    kept.write_text(kept.read_text().replace(a, "kept"))
    assert file_hash(file) == "kept"
    file.write_text("b")
    assert file_hash(file) == b


def test_hashes_of_the_same_files_are_kept_apart_and_each_file_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("palmette.cache._YOUNG", -1.0)
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        file.write_text("x")
    assert kept_hash(files, "first", lambda: "1") == kept_hash(files, "first", lambda: "2") == "1"
    assert kept_hash(files, "second", lambda: "2") == "2"
    assert kept_hash(files[::-1], "first", lambda: "3") == "3"
    files[1].write_text("longer")
    assert kept_hash(files, "first", lambda: "4") == "4"


def test_a_hash_of_a_young_file_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_text("a")
    assert kept_hash([file], "x", lambda: "1") == "1"
    assert kept_hash([file], "x", lambda: "2") == "2"


def test_a_hash_is_computed_where_the_cache_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("palmette.cache._YOUNG", -1.0)
    file = tmp_path / "file"
    file.write_text("a")
    assert file_hash(file).startswith("ca978112")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_hash_that_others_may_have_written_counts_for_nothing(mode, tmp_path, monkeypatch):
    """Nor does one in a folder that others may write to. That folder is closed to them."""
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("palmette.cache._YOUNG", -1.0)
    file = tmp_path / "file"
    file.write_text("a")
    assert kept_hash([file], "x", lambda: "1") == kept_hash([file], "x", lambda: "2") == "1"
    (kept,) = (tmp_path / "cache" / "hashes").iterdir()
    kept.chmod(mode)
    assert kept_hash([file], "x", lambda: "3") == "3"
    assert kept_hash([file], "x", lambda: "4") == "3", "what was computed then is kept"
    kept.parent.chmod(0o777)
    assert kept_hash([file], "x", lambda: "5") == "3"
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o755


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_what_is_written_is_trusted_under_a_umask_that_lets_the_group_write(tmp_path):
    before = os.umask(0o002)
    try:
        write_whole(tmp_path / "entry", b"x")
    finally:
        os.umask(before)
    assert is_trusted(tmp_path / "entry")
    assert stat.S_IMODE((tmp_path / "entry").stat().st_mode) == 0o644
