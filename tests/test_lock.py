"""Folders and files held by one process at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from palmette.errors import RunError
from palmette.lock import locked

COUNTS = """
import sys
from pathlib import Path
from palmette.lock import locked
counter = Path(sys.argv[1])
for _ in range(40):
    with locked(counter, wait=True) as mine:
        assert mine
        count = int(counter.read_text())
        counter.write_text(str(count + 1))
"""
HOLDS = """
import sys
from pathlib import Path
from palmette.lock import locked
with locked(Path(sys.argv[1]), wait=False) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_processes_take_turns(tmp_path: Path) -> None:
    """Three processes count 40 times each, and no count is lost, though the lock's file goes and comes all the time."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    started = [subprocess.Popen([sys.executable, "-c", COUNTS, str(counter)]) for _ in range(3)]
    assert [process.wait(timeout=300) for process in started] == [0, 0, 0]
    assert counter.read_text() == "120"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"], "nothing is left behind"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdin=PIPE, stdout=PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    with locked(tmp_path, wait=False) as mine:
        assert not mine
    assert not list(tmp_path.iterdir()), "nothing is written into the folder"
    child.kill()
    child.communicate()
    with locked(tmp_path, wait=True) as mine:
        assert mine


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    one, another = tmp_path / "not there", tmp_path / "another"

    def interrupted() -> None:
        with locked(one, wait=False) as mine:
            assert mine
            with locked(one, wait=False) as again, locked(another, wait=False) as other:
                assert not again, "it is not re-entrant"
                assert other
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with locked(tmp_path / "not there", wait=False) as mine:
        assert mine
    assert not list(tmp_path.iterdir())


def test_who_would_wait_for_itself_is_told(tmp_path: Path) -> None:
    with locked(tmp_path, wait=True), pytest.raises(RuntimeError, match="Deadlock"), locked(tmp_path, wait=True):
        pass


def test_there_must_be_a_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = r"cannot lock .*file.* Choose a folder that can be written"
    with pytest.raises(RunError, match=message), locked(tmp_path / "file" / "inside", wait=False):
        pass
