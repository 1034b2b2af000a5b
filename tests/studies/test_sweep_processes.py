"""One sweep in several processes: nothing is done twice, and what another one holds comes last."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace

import pytest

from palmette.lock import locked
from palmette.run import read_log
from tests.support.command import palmette
from tests.support.recipes import small_sweep, sweep_file


def test_two_processes_share_a_sweep(tiny_folder: Path, tmp_path: Path) -> None:
    """Every cell is trained once, by either of them, and both end with the whole table."""
    file = sweep_file(tmp_path / "s.yaml", seeds=[0, 1, 2, 3], **small_sweep(tiny_folder, tmp_path))
    code = "import sys; from palmette.cli.main import main; sys.argv = ['palmette', 'sweep', sys.argv[1]]; main()"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=PIPE, stderr=PIPE, text=True) for _ in range(2)
    ]
    told = [process.communicate(timeout=600) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    for seed in range(4):
        assert sum(err.count(f"base_seed={seed}: span decoder: exact match") for _, err in told) == 1
        assert len(read_log(tmp_path / "s" / "cells" / f"base_seed={seed}" / "run" / "metrics.jsonl")) == 4
    assert all("4 of 4 runs finished" in err for _, err in told)
    assert (tmp_path / "s" / "sweep.md").read_text().count("| base_seed=") == 8


def test_a_cell_of_another_process_comes_last(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first cell is held until the second one is done and looked at once more; then the first is trained too."""
    file = sweep_file(tmp_path / "s.yaml", seeds=[0, 1], **small_sweep(tiny_folder, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(
            "palmette.studies.sweep.runner._train", lambda cell, say: (_ for _ in ()).throw(MemoryError("no room"))
        )
        assert palmette(patch, "sweep", file) == 1  # makes the folders
    capsys.readouterr()
    first = tmp_path / "s" / "cells" / "base_seed=0"
    held = contextlib.ExitStack()
    assert held.enter_context(locked(first, wait=True))
    waits = []

    def let_go(seconds: float) -> None:
        waits.append(seconds)
        held.close()

    monkeypatch.setattr("palmette.studies.work_sharing.time", SimpleNamespace(sleep=let_go))
    assert palmette(monkeypatch, "sweep", file, "--retry-failed") == 0
    err = capsys.readouterr().err
    assert err.count("base_seed=0: another process is working on it") == 1
    assert len(waits) == 1
    assert err.index("base_seed=1: span decoder: exact match") < err.index("base_seed=0: span decoder: exact match")


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from palmette.lock import locked\n"
        "with locked(Path(sys.argv[1]), wait=False) as mine:\n"
        "    print(mine, flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=PIPE, stdout=PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    with locked(tmp_path, wait=False) as mine:
        assert not mine
    child.kill()
    child.communicate()
    with locked(tmp_path, wait=False) as mine:
        assert mine
