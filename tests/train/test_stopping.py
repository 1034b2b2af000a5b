"""Training that is stopped, doubled or cut off: locks, signals, threads, checkpoints by time, damaged files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from palmette import run
from palmette.config.recipes import Recipe
from palmette.errors import PalmetteError, RunError
from palmette.lock import locked
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import SaveOnInterrupt, TrainingInterrupted
from palmette.train.steps.checkpoints import checkpoints, latest_checkpoint, missing_files
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, assert_same, log, on_step, quiet


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    train(sft_recipe(tiny_folder, out), quiet)
    return out


@pytest.fixture
def stopped(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that SIGTERM stopped after step 2 of 4, with the checkpoints of steps 1 and 2."""
    with monkeypatch.context() as patch:
        on_step(patch, 1, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(TrainingInterrupted):
            train(sft_recipe(tiny_folder, tmp_path / "stopped"), quiet)
    return tmp_path / "stopped"


def test_sigterm_saves_as_ctrl_c_does(finished: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """In a process of its own, told to end by the system. 143 is 128 + SIGTERM, as shells count.

    It has no checkpoint before: it saves at the end of an epoch only, and the signal comes in the first.
    """
    out, file = tmp_path / "run", tmp_path / "recipe.yaml"
    settings = sft_recipe(tiny_folder, out, train__save_every=0, train__save_minutes=0.0, train__epochs=2000)
    file.write_text(settings.to_yaml())
    command = [sys.executable, "-m", "palmette", "train", "sft", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        wait_for(lambda: (out / "metrics.jsonl").is_file() and bool(log(out)), process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # `timeout` sends it twice
        news = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 143, news
    (*_, last) = checkpoints(out / "checkpoints")
    assert f"Continue with: palmette train sft --resume {out}" in news
    assert last.name == f"checkpoint-{log(out)[-1]['step']}"


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


def test_a_run_stopped_by_sigterm_resumes_bit_equal(finished: Path, stopped: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    resume(stopped, quiet)
    assert signal.getsignal(signal.SIGTERM) == before
    assert_same(adapter(finished), adapter(stopped))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_exit_code_names_the_signal(number: int, tmp_path: Path) -> None:
    assert TrainingInterrupted(tmp_path, 1, "x", number).exit_code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]


def test_training_in_a_thread_works_and_says_what_signals_do(finished: Path, tiny_folder: Path, tmp_path: Path) -> None:
    news: list[str] = []
    thread = threading.Thread(target=lambda: train(sft_recipe(tiny_folder, tmp_path / "run"), news.append))
    thread.start()
    thread.join()
    assert_same(adapter(finished), adapter(tmp_path / "run"))
    assert any("in a thread: Ctrl-C and SIGTERM save no checkpoint" in line for line in news)


def test_only_one_process_trains_a_run(finished: Path, stopped: Path, tiny_folder: Path) -> None:
    """The other process is this one, which holds the folder as it would."""
    before = (stopped / "metrics.jsonl").read_bytes()
    with locked(stopped, wait=False) as held:
        assert held
        message = rf"another process is training {stopped}.*palmette train sft --resume {stopped}"
        with pytest.raises(RunError, match=message):
            resume(stopped, quiet)
        with pytest.raises(RunError, match=message):
            train(sft_recipe(tiny_folder, stopped), quiet)
    assert (stopped / "metrics.jsonl").read_bytes() == before
    resume(stopped, quiet)
    assert [line["step"] for line in log(stopped)] == [1, 2, 3, 4]
    assert_same(adapter(finished), adapter(stopped))


def test_the_first_signal_is_answered_with_a_line_and_a_second_ctrl_c_stops_at_once() -> None:
    said: list[str] = []
    stop = SaveOnInterrupt()
    with stop.listening(said.append):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert said == ["stopping after this step, with a checkpoint. A further Ctrl-C stops at once, without one"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.number == signal.SIGTERM


def test_a_run_is_held_while_it_trains(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process asks for the lock in the first step, from the start and on resuming."""
    out = tmp_path / "run"
    program = (
        "import sys; from pathlib import Path; from palmette.lock import locked\n"
        "with locked(Path(sys.argv[1]), wait=False) as held: print(held)"
    )
    answers: list[str] = []

    def ask() -> None:
        command = [sys.executable, "-c", program, str(out)]
        answers.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())

    def ask_and_stop() -> None:
        ask()
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        on_step(patch, 1, ask_and_stop)
        with pytest.raises(TrainingInterrupted):
            train(sft_recipe(tiny_folder, out), quiet)
    on_step(monkeypatch, 3, ask)
    resume(out, quiet)
    ask()
    assert answers == ["False", "False", "True"]


def test_a_run_leaves_no_lock_behind(finished: Path) -> None:
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]


def test_checkpoints_by_time_change_no_numbers(
    finished: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A billionth of a minute has always passed, so every step is saved; without it, only the ends of epochs are."""
    saved: list[list[str]] = []
    for name, minutes in (("often", 1e-9), ("never", 0.0)):
        out = tmp_path / name
        changes = {"train__save_every": 0, "train__save_minutes": minutes, "train__keep_checkpoints": 9}
        with monkeypatch.context() as patch:
            on_step(patch, 4, lambda out=out: saved.append([p.name for p in checkpoints(out / "checkpoints")]))  # type: ignore[misc]
            train(sft_recipe(tiny_folder, out, **changes), quiet)
        assert_same(adapter(finished), adapter(out))
    assert saved == [["checkpoint-1", "checkpoint-2", "checkpoint-3"], ["checkpoint-2"]]


def test_checkpoints_are_saved_every_ten_minutes_by_default() -> None:
    assert Recipe(output="x").train.save_minutes == 10


@pytest.mark.parametrize("damage", ["removed", "cut", "empty", "list removed", "list cut"])
@pytest.mark.parametrize("name", ["optimizer.pt", "adapter_model.safetensors", "trainer_state.json"])
def test_a_damaged_checkpoint_is_passed_over(stopped: Path, damage: str, name: str) -> None:
    folder = stopped / "checkpoints"
    newest = folder / "checkpoint-2"
    assert latest_checkpoint(folder) == newest
    file = newest / name
    if damage == "list cut":
        (newest / "files.json").write_text('{"optim')
    else:
        if damage == "list removed":  # as in checkpoints that were written before they had one
            (newest / "files.json").unlink()
            assert latest_checkpoint(folder) == newest
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:-1])
        elif damage == "empty":
            file.write_bytes(b"")
        else:
            file.unlink()
    news: list[str] = []
    assert latest_checkpoint(folder, news.append) == folder / "checkpoint-1"
    (line,) = news
    assert line.startswith("checkpoint-2 is passed over: ")


def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(finished: Path, stopped: Path) -> None:
    news: list[str] = []
    (stopped / "checkpoints" / "checkpoint-2" / "optimizer.pt").write_bytes(b"")
    resume(stopped, news.append)
    assert news[:2] == [
        "checkpoint-2 is passed over: optimizer.pt missing or cut off",
        "resuming from checkpoint-1",
    ]
    assert_same(adapter(finished), adapter(stopped))
    assert [line["step"] for line in log(stopped)] == [1, 2, 3, 4]


def test_a_checkpoint_lists_all_its_files(stopped: Path) -> None:
    newest = stopped / "checkpoints" / "checkpoint-2"
    listed = json.loads((newest / "files.json").read_text())
    assert listed == {path.name: path.stat().st_size for path in newest.iterdir() if path.name != "files.json"}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} < listed.keys()
    assert missing_files(newest) == []


def test_files_are_flushed_before_they_get_their_names(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system is called: each file's content, then the name, then the folder that holds the name."""
    calls: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def noted_fsync(handle: int) -> None:
        calls.append(("flush", Path(f"/proc/self/fd/{handle}").readlink().name.partition("-")[0]))
        fsync(handle)

    def noted_rename(self: Path, target: Path) -> Path:
        calls.append(("name", Path(target).name))
        return rename(self, target)

    def noted_replace(self: Path, target: Path) -> Path:
        calls.append(("name", Path(target).name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    monkeypatch.setattr(Path, "replace", noted_replace)
    place = tmp_path / "place"
    place.mkdir()
    run.write_text(place / "a.txt", "a")
    assert calls == [("flush", ".a.txt"), ("name", "a.txt"), ("flush", "place")]
    calls.clear()
    with run.whole_folder(place / "folder") as staging:
        (staging / "one").write_text("1")
        (staging / "deep").mkdir()
        (staging / "deep" / "two").write_text("2")
    named = calls.index(("name", "folder"))
    assert {name for what, name in calls[:named] if what == "flush"} == {"one", "deep", "two", ".folder"}
    assert calls[named:] == [("name", "folder"), ("flush", "place")]


LINES = [{"step": 1, "text": "ferry"}, {"step": 2, "text": "\u2028 quay \U0001f6a2"}]
WHOLE = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in LINES).encode()


@pytest.mark.parametrize("size", range(len(WHOLE) + 1))
def test_a_log_cut_anywhere_is_read(tmp_path: Path, size: int) -> None:
    """Within the ship, which has four bytes in UTF-8, too; and with the zeros that a power failure may leave."""
    first = WHOLE.index(b"\n")
    whole_lines = sum(size >= end for end in (first, len(WHOLE) - 1))
    path = tmp_path / "log.jsonl"
    for tail in (b"", b"\0" * 7) if size not in (first, len(WHOLE) - 1) else (b"",):
        path.write_bytes(WHOLE[:size] + tail)
        assert run.read_log(path) == LINES[:whole_lines]


def test_a_log_damaged_in_its_middle_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n\xf0\x9f\n{"step": 3}\n')
    with pytest.raises(PalmetteError, match=r"line 2 of .*log\.jsonl is damaged.*Remove this line"):
        run.read_log(path)
