"""What a mistyped command is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from palmette.cli.main import COMMANDS, app
from palmette.cli.suggestions import _CALLED, suggestion
from tests.support.command import palmette

CASES = {
    "sft": "'palmette train sft'",
    "evaluate": "'palmette eval squad'",
    "eval sqad": "'palmette eval squad'",
    "eval dpo": "'palmette train dpo'",
    "train evaluate": "'palmette eval squad'",
    "train_dpo": "'palmette train dpo'",
    "synth preferense": "'palmette synth preferences'",
    "quickstrat": "'palmette quickstart'",
    "traian": "'palmette train', 'palmette review retrain' or 'palmette train pretrain'",
    "aks": "'palmette ask'",
    "compare": "'palmette models compare'",
    "calib": "'palmette calibrate'",
    "ASK": "'palmette ask'",
    "predit": "'palmette predict' or 'palmette eval predictions'",
}


@pytest.mark.parametrize("typed", CASES)
def test_a_mistyped_command_is_told_what_may_be_meant(typed: str) -> None:
    shown = CliRunner().invoke(app, typed.split())
    assert shown.exit_code == 2
    assert f"Did you mean {CASES[typed]}?" in shown.output


def test_what_is_near_nothing_gets_no_suggestion() -> None:
    shown = CliRunner().invoke(app, ["qwertzuiop"])
    assert shown.exit_code == 2
    assert "No such command 'qwertzuiop'" in shown.output
    assert "Did you mean" not in shown.output


def test_hidden_commands_are_not_suggested() -> None:
    assert suggestion(["rlhf"], [], COMMANDS) == "Did you mean 'palmette chain'?"


@pytest.mark.parametrize("path", sorted(set(_CALLED.values())))
def test_other_programs_names_lead_to_commands(path: str) -> None:
    assert CliRunner().invoke(app, [*path.split(), "--help"]).exit_code == 0


@pytest.mark.parametrize("word", _CALLED)
def test_no_command_has_the_name_of_another_programs(word: str) -> None:
    """Else the table would be for nothing."""
    assert word not in COMMANDS


# Commands that take a run, an evaluation or a model, mistyped, and what is meant.
MISTYPED = {
    "compare-runs runs/measurd runs/measured": "runs/measured",
    "compare-runs runs/measured runs/quikstart/untouched": "runs/quickstart/untouched",
    "push runs/quikstart --to me/it": "runs/quickstart",
    "push runs/quickstart --to me/it --evaluation runs/measurd": "runs/measured",
    "merge runs/quikstart --out new": "runs/quickstart",
    "report quikstart": "runs/quickstart",
    "train sft --resume runs/quikstart": "runs/quickstart",
    "train dpo --resume quickstart": "runs/quickstart",
    "baseline encoder --data builtin:test --resume runs/encodr": "runs/encoder",
    "calibrate --model runs/quikstart --data builtin:test": "runs/quickstart",
    "eval squad --model runs/quikstart --data builtin:test --out new": "runs/quickstart",
    "eval retention --model runs/quikstart": "runs/quickstart",
    "eval divergence --model runs/quikstart --reference runs/quickstart --data builtin:test": "runs/quickstart",
    "inspect --model runs/quikstart": "runs/quickstart",
    "chat --model runs/quikstart": "runs/quickstart",
}


@pytest.mark.parametrize("typed", MISTYPED)
def test_a_mistyped_run_is_told_which_may_be_meant(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "quickstart": ["recipe.yaml", "manifest.json"],
        "measured": ["answers.jsonl", "metrics.json"],
        "quickstart/untouched": ["answers.jsonl", "metrics.json"],
        "encoder": ["encoder.json"],
    }
    for folder, names in files.items():
        Path("runs", folder).mkdir(parents=True)
        for name in names:
            Path("runs", folder, name).write_text("{}")
    assert palmette(monkeypatch, *typed.split()) == 2
    shown = capsys.readouterr().err
    assert f"Did you mean {MISTYPED[typed]}?" in shown
    assert shown.startswith("error: ")
