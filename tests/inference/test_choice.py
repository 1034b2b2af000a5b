"""Which model answers where none was named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import yaml

from palmette.inference.choice import choose_model, finished_runs
from palmette.inference.reader import READER


def made(folder: Path, ended: float | None, *, stage: str = "sft", kind: str = "qa", trained: str = "adapter") -> Path:
    """A run folder that was finished at a time, or not at all."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"output": str(folder), "data": {"kind": kind}}))
    (folder / "manifest.json").write_text(json.dumps({"stage": stage}))
    if ended is not None:
        (folder / trained).mkdir()
        settings = folder / trained / ("config.json" if trained == "model" else "adapter_config.json")
        settings.write_text("{}")
        os.utime(settings, (ended, ended))
    return folder


def test_the_run_that_was_finished_last_is_mentioned(tmp_path: Path) -> None:
    """Not the one that was begun last, or changed last: calibrating a run writes into its folder."""
    runs = tmp_path / "runs"
    made(runs / "b", 100.0)
    newest = made(runs / "chain" / "a", 300.0, trained="model")
    older = made(runs / "c", 200.0)
    (older / "adapter" / "calibration.json").write_text("{}")
    chosen = choose_model(runs)
    assert chosen.name == READER
    assert chosen.why == f"Using the reader that comes with palmette. For your newest run, give --model {newest}."


def test_a_run_may_be_a_link(tmp_path: Path) -> None:
    """And links that go round in a circle come to an end."""
    runs = tmp_path / "runs"
    runs.mkdir()
    made(tmp_path / "elsewhere", 100.0)
    (runs / "linked").symlink_to(tmp_path / "elsewhere")
    (runs / "circle").symlink_to(runs)
    assert {folder.resolve() for _, folder in finished_runs(runs)} == {tmp_path / "elsewhere"}


def test_runs_that_cannot_answer_are_left_out(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    answers = made(runs / "answers", 1.0)
    made(runs / "unfinished", None)
    made(runs / "reward", 5.0, stage="reward")
    made(runs / "chats", 6.0, kind="chat")
    broken = made(runs / "broken", 7.0)
    (broken / "recipe.yaml").write_text("output: [")
    unreadable = made(runs / "unreadable", 8.0)
    (unreadable / "manifest.json").write_text("{")
    made(answers / "inside", 9.0)  # a folder inside a run belongs to the run
    made(runs / "a" / "b" / "c" / "d" / "e", 10.0)  # too deep to be found
    assert [folder for _, folder in finished_runs(runs)] == [answers]


def test_without_a_run_only_the_reader_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for runs in (tmp_path / "none", tmp_path / "empty"):
        chosen = choose_model(runs)
        assert (chosen.name, chosen.why) == (
            READER,
            "Using the reader that comes with palmette. --model takes another.",
        )
