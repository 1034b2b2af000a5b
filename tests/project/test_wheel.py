"""The check of a wheel, on small archives. `make wheel` runs it on the real one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.support.wheel import differences, main, tracked

FILES = ("palmette/__init__.py", "palmette/web/static/main.js", "palmette/reader/adapter_model.safetensors")


def wheel(path: Path, *names: str, weights: int = 2_000_000) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*names, "palmette-1.dist-info/METADATA"):
            archive.writestr(name, b"\0" * (weights if name.endswith(".safetensors") else 1))
    return path


def test_a_whole_wheel_has_no_difference_and_others_say_which(tmp_path: Path) -> None:
    assert differences(wheel(tmp_path / "whole.whl", *FILES), FILES) == []
    assert differences(wheel(tmp_path / "code.whl", *FILES[:1], "palmette/notes.txt"), FILES) == [
        "lacks palmette/reader/adapter_model.safetensors",
        "lacks palmette/web/static/main.js",
        "has palmette/notes.txt, which git does not know",
    ]
    pointer = wheel(tmp_path / "pointer.whl", *FILES, weights=130)  # as Git LFS leaves them
    assert differences(pointer, FILES) == ["has no weights in palmette/reader/adapter_model.safetensors"]


def test_every_kind_of_file_is_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = tracked()
    for name in (
        "palmette/web/static/review/main.js",
        "palmette/web/templates/review.html",
        "palmette/review/migrations/versions/r0001_events.py",
        "palmette/reader/adapter/adapter_model.safetensors",
        "palmette/data/corpus/train.json",
        "palmette/model/kernels.c",
    ):
        assert name in expected
    assert main([str(wheel(tmp_path / "x.whl", *(one for one in expected if not one.endswith(".js"))))]) == 1
    assert "lacks palmette/web/static/review/main.js" in capsys.readouterr().out
    assert main([str(wheel(tmp_path / "y.whl", *expected))]) == 0
    assert main([]) == 2
