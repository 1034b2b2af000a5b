"""Which run is newer than another, by the names that retraining gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmette import run
from palmette.studies.retraining.newest import newest_retraining


def make(folder: Path, *, finished: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name in (run.RECIPE, run.MANIFEST):
        (folder / name).write_text("{}")
    if finished:
        (folder / run.ADAPTER).mkdir()
    return folder


def test_the_highest_number_of_a_finished_run_is_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 is above 9, a run that is not finished is none yet, and a run of another name is of no concern."""
    old = make(tmp_path / "runs" / "mine")
    assert newest_retraining(str(old)) is None
    for number in (1, 9, 10):
        make(tmp_path / "runs" / f"mine-review-{number}")
    make(tmp_path / "runs" / "mine-review-11", finished=False)
    make(tmp_path / "runs" / "mine-review-x")
    make(tmp_path / "runs" / "mine-too-review-12")
    (tmp_path / "runs" / "mine-review-13").mkdir()
    assert newest_retraining(str(old)) == str(tmp_path / "runs" / "mine-review-10")
    assert newest_retraining(str(tmp_path / "runs" / "mine-review-9")) == str(tmp_path / "runs" / "mine-review-10")
    assert newest_retraining(str(tmp_path / "runs" / "mine-review-10")) is None
    assert newest_retraining("somebody/model") is None
    monkeypatch.chdir(tmp_path)
    assert newest_retraining("runs/mine") == "runs/mine-review-10"
