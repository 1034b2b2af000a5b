"""The benchmark of training settings: a stopped training goes on, and what was measured is not measured again."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from palmette import run
from palmette.data.source import read_source
from palmette.data.squad import dump_squad
from tests.support.runs import adapter, assert_same, log, on_step
from tests.support.scripts import benchmark_scripts


@pytest.fixture
def levers(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, with two equal levers that train a tiny model in four steps.

    There is dropout, so random state matters.
    """
    tiny = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "lora": {"rank": 2, "dropout": 0.2},
        "train": {"epochs": 2, "trees_per_step": 1, "learning_rate": 0.01},
    }
    with benchmark_scripts(["levers"]) as modules:
        monkeypatch.setattr(modules.levers, "LEVERS", {"stopped once": tiny, "never stopped": tiny})
        yield modules.levers


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Options with which two built-in documents are learned, and the questions of another are asked."""
    test = tmp_path / "test.json"
    test.write_text(dump_squad(read_source("builtin:test").documents[:1]))
    return ["--train", "builtin:dev", "--every", "10", "--test", str(test), "--work", str(tmp_path / "work")]


def test_a_stopped_training_goes_on_and_what_was_measured_stays(
    levers: ModuleType,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = tmp_path / "work"
    with monkeypatch.context() as patch:
        on_step(patch, 2, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit) as stop:
            levers.main(words)
    assert stop.value.code == 143  # 128 + SIGTERM, as shells count
    assert "The same command goes on." in capsys.readouterr().err
    assert not run.is_finished(work / "stopped-once")
    assert not (work / "stopped once.json").exists()

    levers.main(words)
    assert [line["step"] for line in log(work / "stopped-once")] == [1, 2, 3, 4]
    assert_same(adapter(work / "stopped-once"), adapter(work / "never-stopped"))
    head, _, first, second = capsys.readouterr().out.strip().splitlines()[-4:]
    assert head.startswith("| changed | EM | F1 |")
    assert first.removeprefix("| stopped once ") == second.removeprefix("| never stopped ")

    file = work / "never stopped.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "EM": 12.3}))
    levers.main(words)
    assert "| never stopped | 12.3 (" in capsys.readouterr().out


def test_other_data_need_another_folder(
    levers: ModuleType, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(levers, "LEVERS", {})
    levers.main(words)
    with pytest.raises(SystemExit):
        levers.main([*words, "--every", "5"])
    assert "work was begun with every = 10, and now it is 5" in capsys.readouterr().err
