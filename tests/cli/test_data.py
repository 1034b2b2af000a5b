"""`palmette data check`, `palmette examples` and `palmette recipe`: what they print, and how they end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from palmette.data.example_files import example_names
from palmette.train.stages import STAGES
from tests.support.command import palmette
from tests.support.paths import SOURCE

BAD = [
    {"question": "When?", "context": "At 7:40.", "answers": ["7:40"]},
    {"question": "Who?", "context": "At 7:40.", "answers": ["nobody"]},
]


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in BAD))
    return path


def test_data_that_are_in_order(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert palmette(monkeypatch, "data", "check", "builtin:dev", "--stage", "sft") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("builtin:dev: questions about documents\n")
    assert "Nothing is wrong." in shown


def test_data_with_a_mistake_end_with_exit_code_1(
    bad: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palmette(monkeypatch, "data", "check", bad) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 problem:" in shown
    assert "the row with id 'line-2': the answer 'nobody' does not stand in the context" in shown


def test_the_report_as_json(bad: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert palmette(monkeypatch, "data", "check", bad, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["holds"] == "questions about documents"
    assert [problem["count"] for problem in report["problems"]] == [1]


def test_tokens_are_counted_where_a_tokenizer_is_at_hand(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The built-in data for choosing have 20 documents, each with a tree of its own."""
    monkeypatch.setattr("palmette.model.tokenizer.tokenizer_folder", lambda: tiny_folder)
    assert palmette(monkeypatch, "data", "check", "builtin:dev") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "trunks 20, " in shown
    assert re.search(r"trees 20, [\d,]+ tokens at the median, [\d,]+ at most in '", shown)
    assert "too long none of more than train.row_tokens = 4,096" in shown
    assert palmette(monkeypatch, "data", "check", "builtin:dev", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["tokens"]["row_tokens"], report["tokens"]["trees"]["count"]) == (4096, 20)
    assert "records" not in report
    monkeypatch.setattr("palmette.model.tokenizer.tokenizer_folder", lambda: None)
    assert palmette(monkeypatch, "data", "check", "builtin:dev", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tokens"] is None


def test_tokens_are_counted_without_torch(tiny_folder: Path) -> None:
    code = (
        "import sys\n"
        "from palmette.cli.main import main\n"
        "from palmette.model import tokenizer\n"
        f"tokenizer.tokenizer_folder = lambda: {str(tiny_folder)!r}\n"
        "sys.argv = ['palmette', 'data', 'check', 'builtin:dev']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert "tokens at the median" in said
    assert said.splitlines()[-1] == "False"


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_says_whether_it_can_learn_from_the_data(
    stage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The built-in corpus is for fine-tuning and for the stages that sample answers to questions."""
    fits = stage in ("sft", "grpo", "ppo")
    assert palmette(monkeypatch, "data", "check", "builtin:dev", "--stage", stage) == (0 if fits else 1)
    assert ("are needed here" in capsys.readouterr().out) is not fits


def test_no_line_of_a_report_is_wider_than_the_terminal(bad: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "palmette", "data", "check", bad.name],
        capture_output=True,
        text=True,
        cwd=bad.parent,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == 1, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_no_check_loads_a_model(bad: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from palmette.cli.main import app\n"
        f"CliRunner().invoke(app, ['data', 'check', {str(bad)!r}, '--stage', 'sft', '--no-tokens'])\n"
        "CliRunner().invoke(app, ['recipe', 'ppo'])\n"
        "assert 'palmette.data.check' in sys.modules\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_examples_are_written_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert palmette(monkeypatch, "examples") == 0
    assert capsys.readouterr().out.split() == [f"examples/{name}" for name in example_names()]
    assert palmette(monkeypatch, "examples") == 2
    assert "Name another folder" in capsys.readouterr().err


def test_the_kinds_of_recipes_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    assert palmette(monkeypatch, "recipe") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1] if line[2] != " "] == [*STAGES, "sweep", "chain"]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "Print one with: palmette recipe sft > my.yaml"


def test_a_recipe_that_was_printed_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All is well up to the data, which are an example's."""
    monkeypatch.chdir(tmp_path)
    assert palmette(monkeypatch, "recipe", "dpo") == 0
    (tmp_path / "my.yaml").write_text(capsys.readouterr().out)
    assert palmette(monkeypatch, "train", "dpo", "my.yaml") == 2
    assert "there is no data file 'preferences.jsonl'" in capsys.readouterr().err
    assert palmette(monkeypatch, "recipe", "lora") == 2
    assert "there is no kind of recipe 'lora'" in capsys.readouterr().err
