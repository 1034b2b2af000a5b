"""What a mistyped command is told."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from palmette.cli.main import COMMANDS, app
from palmette.cli.suggestions import _CALLED, suggestion

CASES = {
    "sft": "'palmette train sft'",
    "evaluate": "'palmette eval squad'",
    "eval sqad": "'palmette eval squad'",
    "eval dpo": "'palmette train dpo'",
    "train evaluate": "'palmette eval squad'",
    "train_dpo": "'palmette train dpo'",
    "synth preferense": "'palmette synth preferences'",
    "quickstrat": "'palmette quickstart'",
    "traian": "'palmette train'",
    "aks": "'palmette ask'",
    "compare": "'palmette compare-runs'",
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
