"""The program that runs a page's commands finds them all, and tells how each went."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.page_commands import README, Step, run, seen, steps, walk

HEADING = "## Every command, in order"
PAGE = """# Page

Save this as mine.yaml:

```yaml
output: runs/mine
```

    palmette train sft mine.yaml  # 3 s
    palmette ask a.txt \\
      "Who?"

```text
palmette is not called here
```

    the answer, which is no command

```bash
echo "Noon." > a.txt
curl http://127.0.0.1
A=1 palmette data check a
```
"""


def test_files_and_commands_are_found_in_their_order() -> None:
    assert steps(PAGE) == [
        Step(file="mine.yaml", text="output: runs/mine\n"),
        Step(command="palmette train sft mine.yaml"),
        Step(command='palmette ask a.txt "Who?"'),
        Step(command='echo "Noon." > a.txt'),
        Step(command="A=1 palmette data check a"),
    ]


def test_the_readme_begins_with_what_the_others_need() -> None:
    found = steps(README.read_text(encoding="utf-8"))
    assert [step.command for step in found[:2]] == ["palmette quickstart", "palmette examples"]
    assert len(found) > 12


def test_each_command_of_the_readme_has_its_time_beside_it() -> None:
    section = README.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    lines = re.findall(r"^ {4}\S.*$", section, flags=re.MULTILINE)
    assert lines
    assert not [line for line in lines if not re.search(r"  # [\d.]+( to [\d.]+)? (s|min)$", line)]


def test_a_command_has_a_terminal_of_80_columns_and_keeps_its_exit_code(tmp_path: Path) -> None:
    program = "import os, sys; print(os.get_terminal_size().columns, sys.stdin.isatty()); sys.exit(7)"
    outcome = run(f"{sys.executable} -c '{program}'", tmp_path, 60.0)
    assert (outcome.code, outcome.output) == (7, "80 False\r\n")
    assert outcome.first is not None


def test_a_command_that_prints_nothing_has_no_first_output(tmp_path: Path) -> None:
    outcome = run("true", tmp_path, 60.0)
    assert (outcome.code, outcome.first, outcome.output) == (0, None, "")


def test_a_command_that_never_ends_gets_a_ctrl_c(tmp_path: Path) -> None:
    program = 'trap "echo stopped; exit 130" INT; echo begun; while :; do sleep 0.1; done'
    outcome = run(program, tmp_path, 1.0)
    assert (outcome.code, outcome.output.split()) == (130, ["begun", "stopped"])


def test_failed_commands_are_named_and_the_others_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Namespace(only="", quickstart=None, limit_seconds=60.0, show=False)
    found = [Step(file="a/b.txt", text="kept\n"), Step(command="cat a/none"), Step(command="cp a/b.txt c.txt")]
    assert walk(found, tmp_path, options) == ["cat a/none"]
    assert (tmp_path / "c.txt").read_text() == "kept\n"
    assert "No such file" in capsys.readouterr().out


def test_of_a_progress_bar_the_last_line_is_seen() -> None:
    assert seen("begun\r\n| | 0 of 2\r|#| 2 of 2\r    \r\ndone\r\n") == "begun\n|#| 2 of 2\ndone\n"
