"""The cache of compiled kernels: what may be loaded from it, and what is compiled again."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from palmette.cache import is_trusted
from palmette.model.kernels import kernels_for

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler on this machine"),
    pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's"),
]
is_root = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The cache's folder of kernels, with a fresh choice of kernels."""
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path))
    kernels_for.cache_clear()
    yield tmp_path / "kernels"
    kernels_for.cache_clear()


def load() -> str:
    """What is chosen now, after computing something by hand with it: silu(0) times 3 is 0, and rms(3, 4) is
    sqrt(12.5).
    """
    kernels_for.cache_clear()
    kernels = kernels_for(torch.float32, "cpu")
    assert kernels.swiglu(torch.zeros(1), torch.full((1,), 3.0)).tolist() == [0.0]
    inverse = kernels.rms_norm(torch.tensor([[3.0, 4.0]]), torch.ones(2), 0.0)[1]
    assert inverse.item() == pytest.approx(12.5**-0.5)
    return kernels.name


def only_file(folder: Path) -> Path:
    (file,) = folder.glob("*.so")
    return file


def foreign_library(path: Path, marker: Path) -> bytes:
    """A library that leaves a mark as soon as it is loaded."""
    source = path.with_suffix(".c")
    source.write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void run(void) "
        f'{{ FILE *file = fopen("{marker}", "w"); if (file) fclose(file); }}\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    return path.read_bytes()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_nobody_else_may_write_what_is_compiled(umask: int, folder: Path) -> None:
    before = os.umask(umask)
    try:
        assert load() == "compiled"
    finally:
        os.umask(before)
    for path in (folder, only_file(folder)):
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    assert [path.name for path in folder.iterdir()] == [only_file(folder).name], "something was left behind"


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(50), None], ids=["empty", "nonsense", "cut off"])
def test_a_damaged_file_is_compiled_again(content: bytes | None, folder: Path) -> None:
    assert load() == "compiled"
    file = only_file(folder)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert load() == "compiled"
    assert len(only_file(folder).read_bytes()) == len(whole)


def test_a_file_that_was_replaced_is_not_run(folder: Path, tmp_path: Path) -> None:
    """The same name and the right owner and mode: its content is not what the name states."""
    load()
    marker = tmp_path / "ran"
    foreign = foreign_library(tmp_path / "foreign.so", marker)
    file = only_file(folder)
    file.unlink()  # a library that is loaded must not change in place
    file.write_bytes(foreign)
    assert load() == "compiled"
    assert not marker.exists()


def plant(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A foreign library under a name that fits its content, and the mark that it would leave."""
    import hashlib

    load()
    marker = tmp_path / "ran"
    foreign = foreign_library(tmp_path / "foreign.so", marker)
    file = only_file(folder)
    planted = file.with_name(f"{file.stem.partition('-')[0]}-{hashlib.sha256(foreign).hexdigest()[:20]}.so")
    file.unlink()
    planted.write_bytes(foreign)
    planted.chmod(0o755)
    return planted, marker


def test_the_planted_library_would_leave_its_mark(folder: Path, tmp_path: Path) -> None:
    """So the tests below can fail: nothing about it is wrong, so it is loaded, then found to lack the functions."""
    planted, marker = plant(folder, tmp_path)
    assert load() == "compiled"
    assert marker.exists()
    assert not planted.exists()


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_file_that_others_may_write_is_not_run(mode: int, folder: Path, tmp_path: Path) -> None:
    planted, marker = plant(folder, tmp_path)
    planted.chmod(mode)
    assert load() == "compiled"
    assert not marker.exists()
    assert not planted.exists()


@is_root
def test_a_file_of_another_user_is_not_run(folder: Path, tmp_path: Path) -> None:
    planted, marker = plant(folder, tmp_path)
    folder.chmod(0o777)  # how it got there
    os.chown(planted, 12345, 12345)
    assert load() == "compiled"
    assert not marker.exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755, "the folder stays open to others"


@is_root
def test_a_folder_of_another_user_is_not_used(folder: Path, tmp_path: Path) -> None:
    _, marker = plant(folder, tmp_path)
    os.chown(folder, 12345, 12345)
    before = set(folder.iterdir())
    assert load() == "compiled"
    assert not marker.exists()
    assert set(folder.iterdir()) == before


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    planted, marker = plant(folder, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert not is_trusted(folder)
    assert load() == "compiled"
    assert not marker.exists()
    assert (elsewhere / planted.name).exists()


def test_a_cache_that_cannot_be_written_serves_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("PALMETTE_CACHE", str(file / "cache"))
    assert load() == "compiled"
    assert not folder.exists()
