"""What was read is kept on disk: found again only where it is the same, private, limited, and never trusted blindly."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest
import torch

from palmette.decode.effort import Effort
from palmette.decode.prefix_cache import States
from palmette.errors import PalmetteError
from palmette.inference import window_store as module
from palmette.inference.answerer import Answerer, load_answerer
from palmette.inference.window_store import LEAST_TOKENS, LIMIT, WindowStore, window_store

TOKENS = list(range(LEAST_TOKENS))
EFFORT = Effort(window_tokens=300, overlap_tokens=60, max_words=3)
TEXT = " ".join(f"The ferry {i} leaves at {i * 7 % 60}." for i in range(80))


def some_states(seed: int = 0) -> States:
    torch.manual_seed(seed)
    return [(torch.randn(1, 2, 7, 4, dtype=torch.bfloat16), torch.randn(1, 2, 7, 4)) for _ in range(3)]


def assert_equal(one: States | None, other: States) -> None:
    assert one is not None
    for (keys, values), (other_keys, other_values) in zip(one, other, strict=True):
        assert keys.dtype == other_keys.dtype
        assert torch.equal(keys, other_keys)
        assert torch.equal(values, other_values)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path))
    return tmp_path / "windows"


@pytest.fixture
def answerer(tiny_folder: Path, folder: Path) -> Answerer:
    return load_answerer(tiny_folder)


def test_what_was_put_is_got_bit_for_bit_by_the_same_tokens_and_identity(tmp_path: Path) -> None:
    store = WindowStore(tmp_path, "one", 10**6)
    store.put(TOKENS, some_states())
    assert_equal(store.get(TOKENS), some_states())
    assert_equal(WindowStore(tmp_path, "one", 10**6).get(tuple(TOKENS)), some_states())
    assert store.get([*TOKENS, 1]) is None
    assert WindowStore(tmp_path, "other", 10**6).get(TOKENS) is None


def test_short_windows_are_not_kept(tmp_path: Path) -> None:
    store = WindowStore(tmp_path, "one", 10**6)
    store.put(TOKENS[1:], some_states())
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_read_again_and_replaced(tmp_path: Path) -> None:
    store = WindowStore(tmp_path, "one", 10**6)
    store.put(TOKENS, some_states())
    (file,) = tmp_path.iterdir()
    for damage in (b"", b"\xff" * 40, file.read_bytes()[:-20]):
        file.write_bytes(damage)
        assert store.get(TOKENS) is None
        store.put(TOKENS, some_states())
        assert_equal(store.get(TOKENS), some_states())


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    store = WindowStore(tmp_path, "one", 10**6)
    store.put(TOKENS, some_states())
    size = next(tmp_path.iterdir()).stat().st_size
    small = WindowStore(tmp_path, "one", int(2.5 * size))
    small.put([1, *TOKENS], some_states(1))
    for age, file in enumerate(sorted(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)):
        os.utime(file, (age, age))
    assert small.get(TOKENS) is not None, "used now, so the other one is the longest unused"
    small.put([2, *TOKENS], some_states(2))
    assert small.get([1, *TOKENS]) is None
    assert_equal(small.get(TOKENS), some_states())
    assert_equal(small.get([2, *TOKENS]), some_states(2))


def test_what_is_larger_than_the_limit_is_not_written(tmp_path: Path) -> None:
    WindowStore(tmp_path, "one", 100).put(TOKENS, some_states())
    assert not list(tmp_path.iterdir())


def test_a_full_disk_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    store = WindowStore(tmp_path, "one", 10**6)
    store.put(TOKENS, some_states())
    assert store.get(TOKENS) is None
    assert not list(tmp_path.iterdir()), "no part of a file is left"


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_only_the_owner_can_read_it(answerer: Answerer, folder: Path) -> None:
    """Even where the umask would let everybody, and where the folder was open before."""
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    before = os.umask(0)
    try:
        answerer.open_document(TEXT, effort=EFFORT).ask(["Who?"])
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert len(files) > 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.skipif(os.name != "posix", reason="owners of POSIX")
def test_a_folder_of_somebody_else_or_a_link_is_not_used(
    answerer: Answerer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert window_store(answerer) is None
    folder.unlink()
    folder.mkdir()
    assert window_store(answerer) is not None
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert window_store(answerer) is None


def test_it_can_be_turned_off_and_limited(answerer: Answerer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "0")
    answerer.open_document(TEXT, effort=EFFORT).ask(["Who?"])
    assert not folder.exists()
    monkeypatch.setenv(LIMIT, "lots")
    with pytest.raises(PalmetteError, match=r"PALMETTE_WINDOW_CACHE is 'lots'.* Give a number of megabytes"):
        answerer.open_document(TEXT)


def test_a_new_process_finds_what_was_read_and_answers_the_same(answerer: Answerer, folder: Path) -> None:
    """The same answers to the last bit, without reading: a model that could not read would not be noticed."""
    questions = ["When does ferry 70 leave?", "Who?"]
    want = answerer.open_document(TEXT, effort=EFFORT).ask(questions)
    again = load_answerer(answerer.loaded.name)
    session = again.open_document(TEXT, effort=EFFORT)
    assert session.ask(questions) == want
    assert session.num_computed == 0


def test_anything_that_changes_the_numbers_changes_the_key(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    def key() -> Path:
        store = window_store(answerer)
        assert store is not None
        return store.path(TOKENS)

    first = key()
    assert key() == first
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        assert key() != first
    with monkeypatch.context() as patch:
        patch.setattr(module, "_code_hash", lambda: "another")
        assert key() != first
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0")
        assert key() != first
    config = answerer.loaded.model.config
    before, config._attn_implementation = config._attn_implementation, "palmette_eager"
    assert key() != first
    config._attn_implementation = before
    prompted = dataclasses.replace(answerer.task.prompt, before_document="Read this: ")
    other = dataclasses.replace(answerer, task=type(answerer.task)(answerer.task.template, prompted))
    store = window_store(other)
    assert store is not None
    assert store.path(TOKENS) != first
    assert key() == first


def test_changed_weights_change_the_key(tiny_folder: Path, folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    one = window_store(load_answerer(copy))
    weights = load_file(copy / "model.safetensors")
    weights[next(iter(weights))][0] += 1.0
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    other = window_store(load_answerer(copy))
    assert one is not None
    assert other is not None
    assert one.path(TOKENS) != other.path(TOKENS)
