"""The folder of an arena as what a stage learns from."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest

from palmette.arena.folder import ANSWERS, MODELS
from palmette.arena.source import open_votes
from palmette.data.preference import turn_text
from palmette.errors import DataError, PalmetteError
from palmette.train.preferences.job import comparisons_of, verdicts_of
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted
from tests.support.arena import desk_of, make_arena
from tests.support.command import palmette
from tests.support.preferences import recipe
from tests.support.runs import log, on_step, quiet


def voted(folder: Path, *voters: str) -> Path:
    """Two models, four prompts. The first model wins 0 and 3, is tied on 1, and both are bad on 2."""
    arena = make_arena(folder, ("quillwort-7", "org/Sundew-Chat"))
    with desk_of(arena) as desk:
        for voter in voters:
            while (asked := desk.ask(voter, "s")) is not None:
                first = "left" if asked.shown.left == "quillwort-7" else "right"
                said: Any = {"p1": "tie", "p2": "both bad"}.get(asked.shown.prompt, first)
                desk.vote(voter, "s", asked.key, said, 1.0)
    return arena


@pytest.fixture
def arena(tmp_path: Path) -> Path:
    return voted(tmp_path / "arena", "ann", "bob")


def test_votes_become_pairs_and_verdicts(arena: Path, tiny_folder: Path, tmp_path: Path) -> None:
    comparisons, (source,) = comparisons_of(recipe("dpo", tiny_folder, arena, tmp_path / "run"))
    found = {turn_text(one.prompt[0]): one.completions for one in comparisons}
    assert found == {f"Question {n}?": (f"Reply a to {n}.", f"Reply b to {n}.") for n in (0, 3)}
    assert source.votes is not None
    assert (source.votes.votes, source.votes.ties, source.votes.both_bad, source.votes.disputed) == (8, 1, 1, 0)
    verdicts, _ = verdicts_of(recipe("kto", tiny_folder, arena, tmp_path / "run", kto__pairs=False), pairs=False)
    assert {one.completion: one.label for one in verdicts} == {
        "Reply a to 0.": True,
        "Reply b to 0.": False,
        "Reply a to 2.": False,
        "Reply b to 2.": False,
        "Reply a to 3.": True,
        "Reply b to 3.": False,
    }


@pytest.mark.parametrize("stage", ["dpo", "kto", "reward"])
def test_a_stage_learns_from_an_arena(stage: str, arena: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """DPO's first loss is ln 2, since the policy is still the reference."""
    out, news = tmp_path / "run", []
    changes: dict[str, Any] = {"kto__pairs": False} if stage == "kto" else {"lora__dropout": 0.0}
    train(recipe(stage, tiny_folder, arena, out, **changes), news.append)
    assert any("8 votes on 4 pairs of answers: 2 won, 1 tied, 1 both bad" in line for line in news)
    manifest = json.loads((out / "manifest.json").read_text())
    (data,) = manifest["data"]
    opened = open_votes(str(arena))
    assert opened is not None
    assert (data["source"], data["sha256"]) == (str(arena), opened[0])
    assert data["records"] == (6 if stage == "kto" else 2)
    assert data["votes"]["contests"] == 4
    if stage == "dpo":
        assert log(out)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_the_hash_is_of_the_votes_and_of_the_answers(arena: Path) -> None:
    """Not of the database's file: opening it again changes nothing, another vote does."""
    before = open_votes(str(arena))
    assert before == open_votes(str(arena))
    voted(arena, "eve")
    after = open_votes(str(arena))
    assert before is not None
    assert after is not None
    assert len(after[1]) == len(before[1]) + 4
    assert after[0] != before[0]


def test_a_run_does_not_go_on_with_other_votes(
    arena: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    on_step(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        train(recipe("dpo", tiny_folder, arena, out, train__trees_per_step=1), quiet)
    monkeypatch.undo()
    voted(arena, "eve")
    with pytest.raises(PalmetteError, match="data"):
        resume(out, quiet)


def test_an_arena_that_cannot_be_learned_from_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    empty = make_arena(tmp_path / "empty")
    with pytest.raises(DataError, match=r"has no votes yet. Collect some: palmette arena serve"):
        comparisons_of(recipe("dpo", tiny_folder, empty, tmp_path / "run"))
    arena = voted(tmp_path / "arena", "ann")
    models = json.loads((arena / MODELS).read_text())
    (arena / MODELS).write_text(json.dumps([{**models[0], "model": "org/pine"}, models[1]]))
    with pytest.raises(DataError, match=r"an answer of quillwort-7 to .* does not hold"):
        comparisons_of(recipe("dpo", tiny_folder, arena, tmp_path / "run"))
    (arena / ANSWERS / "02.jsonl").unlink()
    with pytest.raises(DataError, match=r"lacks 4 of 4 answers of org/Sundew-Chat"):
        comparisons_of(recipe("dpo", tiny_folder, arena, tmp_path / "run"))


def test_packages_that_an_arena_needs_are_named(arena: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmette.arena.source.find_spec", lambda _: None)
    with pytest.raises(PalmetteError, match=r"not installed: alembic, sqlalchemy. Install them: pip install"):
        open_votes(str(arena))
    assert open_votes("votes.jsonl") is None


def test_the_commands_on_data_take_the_folder(
    arena: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    assert palmette(monkeypatch, "data", "show", arena) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{arena}: votes on pairs of answers" in said
    assert "8 votes on 4 pairs of answers: 2 won, 1 tied, 1 both bad, 0 undecided." in said
    assert palmette(monkeypatch, "data", "check", arena, "--no-tokens", "--stage", "kto") == 0
    assert "6, of which 2 are good and 4 bad" in " ".join(capsys.readouterr().out.split())
    assert palmette(monkeypatch, "data", "export", arena, "--out", tmp_path / "pairs.jsonl") == 0
    assert len((tmp_path / "pairs.jsonl").read_text().splitlines()) == 2
