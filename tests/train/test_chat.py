"""Fine-tuning on conversations: the weight of each token, losses against plain rows, what a run leaves, drops, and
`palmette inspect`.
"""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from palmette.config.recipes import Recipe
from palmette.data.source import read_source
from palmette.errors import DataError, PackingError, RecipeError
from palmette.train.run import resume, train
from palmette.train.stages import read_recipe
from palmette.train.steps.callbacks import TrainingInterrupted
from tests.support.chats import DETAILED, FERRY, ROWS, masked_rows, plain_loss, row
from tests.support.command import palmette
from tests.support.data import chat_file
from tests.support.recipes import parse_recipe
from tests.support.runs import on_step, quiet


def recipe(tiny_folder: Path, path: Path, out: Path, **changes: Any) -> Recipe:
    sections: dict[str, Any] = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(path)], "kind": "chat", **changes.pop("data", {})},
        "lora": {"rank": 2, "dropout": 0.2},
        "train": {"epochs": 2, "learning_rate": 0.01, "save_every": 1, **changes.pop("train", {})},
    }
    return Recipe.model_validate({"output": str(out), **sections, **changes})


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_file(tmp_path_factory.mktemp("chats") / "chat.jsonl", *ROWS)


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, chats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that was never stopped: three trees, two a step, two epochs."""
    out = tmp_path_factory.mktemp("chat-runs") / "straight"
    train(recipe(tiny_folder, chats, out), quiet)
    return out


def test_a_run_says_what_it_learned_from(finished: Path, chats: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    (data,) = manifest["data"]
    assert (data["source"], data["documents"], data["questions"]) == (str(chats), 6, 8)
    assert (manifest["trees"], manifest["questions"], manifest["dropped"]) == (3, 8, [])
    assert read_recipe(finished / "recipe.yaml").data.kind == "chat"
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert all(line["turns_per_second"] > 0 and "questions_per_second" not in line for line in lines)


def test_the_first_loss_of_a_run_is_that_of_plain_rows(
    tiny_folder: Path, chats: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """All trees in one step, before anything was learned; a new adapter changes nothing."""
    settings = recipe(tiny_folder, chats, tmp_path / "run", train={"epochs": 1, "trees_per_step": 3})
    train(settings, quiet)
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    total, weight = plain_loss(AutoModelForCausalLM.from_pretrained(tiny_folder), masked_rows(tokenizer, ROWS))
    assert line["loss"] == pytest.approx(total / weight, rel=1e-4)


@pytest.mark.parametrize("step", [1, 2])
def test_ctrl_c_saves_and_resume_is_bit_equal(
    finished: Path, tiny_folder: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    out = tmp_path / "stopped"
    on_step(monkeypatch, step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        train(recipe(tiny_folder, chats, out), quiet)
    monkeypatch.undo()
    resume(out, quiet)
    straight, resumed = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (finished, out))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


def test_what_is_left_out_is_counted(tiny_folder: Path, tmp_path: Path) -> None:
    """One row breaks the format, one has nothing to learn, one is too long; of the first kind the source has the
    reason.
    """
    bad = row(FERRY, id="unanswered")
    silent = row(FERRY, ("assistant", [{"text": "At 7:40.", "learn": 0}]), id="silent")
    long = row(FERRY, ("assistant", "7:40 " * 100), id="long")
    path = chat_file(tmp_path / "mixed.jsonl", bad, ROWS[5], silent, long)
    lenient = {"on_bad_record": "drop", "on_too_long": "drop"}
    said: list[str] = []
    section = {"row_tokens": 150, "epochs": 1}
    train(recipe(tiny_folder, path, tmp_path / "run", data=lenient, train=section), said.append)
    dropped = json.loads((tmp_path / "run" / "manifest.json").read_text())["dropped"]
    assert len(dropped) == 3
    assert re.search("'unanswered' has no turn of the assistant", dropped[0])
    assert dropped[1] == "conversation 'silent' has nothing to learn: all its weights are 0"
    assert re.fullmatch(r"long: \d{3} tokens, limit 150", dropped[2])
    assert any(re.search("1 turn of the assistant in 1 prefix tree, .* 3 records left out", line) for line in said)
    for data, error, message in (
        ({"on_too_long": "drop"}, DataError, "'unanswered' has no turn"),
        ({"limit_documents": 3, "on_bad_record": "drop"}, PackingError, "tree of 'long' has .* train.row_tokens = 150"),
    ):
        with pytest.raises(error, match=message):
            train(recipe(tiny_folder, path, tmp_path / "none", data=data, train=section), quiet)
    good = chat_file(tmp_path / "silent.jsonl", silent)
    with pytest.raises(DataError, match="conversation 'silent' has nothing to learn"):
        train(recipe(tiny_folder, good, tmp_path / "none"), quiet)
    with pytest.raises(DataError, match="nothing is left to train on: all was dropped, first conversation 'silent'"):
        train(recipe(tiny_folder, good, tmp_path / "none", data={"on_bad_record": "drop"}), quiet)
    with pytest.raises(DataError, match=r"mixed\.jsonl holds conversations, and questions.* sft with data\.kind: chat"):
        train(recipe(tiny_folder, path, tmp_path / "none", data={"kind": "qa"}), quiet)
    assert not (tmp_path / "none").exists()


def test_reasoning_modes_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"reasoning\.kind = blah has no place in conversations"):
        parse_recipe("output: x\ndata: {kind: chat, train: [a.jsonl]}\nreasoning: {kind: blah}", "r.yaml")
    with pytest.raises(RecipeError, match=r"data\.kind = 'talk'"):
        parse_recipe("output: x\ndata: {kind: talk}", "r.yaml")


def test_a_run_on_conversations_can_be_asked(
    tiny_folder: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked in the words of the recipe's prompt, whatever weights its conversations had."""
    out = tmp_path / "kinds"
    section = {"epochs": 1, "trees_per_step": 3}
    train(recipe(tiny_folder, chats, out, train=section, learn={"user": 0.5, "assistant": 1.0}), quiet)
    (tmp_path / "ferry.txt").write_text("The ferry leaves at 7:40.")
    words: list[str | Path] = ["ask", tmp_path / "ferry.txt", "When?", "--model", out, "--json"]
    assert palmette(monkeypatch, *words) == 0
    assert json.loads(capsys.readouterr().out)["question"] == "When?"


def shown_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert palmette(monkeypatch, "inspect", *words) == 0
    return capsys.readouterr().out


def test_inspect_shows_weights_and_masks(
    tiny_folder: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without colours: learned tokens between » and «, hidden ones in ( and ), other weights after the last token
    that has them.
    """
    path = chat_file(tmp_path / "chat.jsonl", {**DETAILED, "id": "detailed"}, *ROWS)
    shown = shown_by(monkeypatch, capsys, "--model", tiny_folder, "--data", path)
    joined = shown.replace("«)(»", "").replace("«»", "").replace(")(", "")
    assert "branch detailed, from position 0" in joined
    assert "When does the» ferry«[0.5] leave?<|im_end|>" in joined
    said = "»The ferry leaves« at(» pier«)[2.5]( seven)» forty.«[0.25]»<|im_end|>«[2.5]"
    assert said in joined
    assert "From pier three.<|im_end|>" in joined
    assert "»Three.<|im_end|>«" in joined
    assert "learned with the weight that follows" in joined
    # Two that open alike: the turn that both learn counts twice.
    both = shown_by(monkeypatch, capsys, "--model", finished, "--limit-questions", "2").replace("«»", "")
    assert "branch early, from position 0" in both
    assert "»At 7:40.<|im_end|>«[2]" in both
    assert "branch long" in both
    assert "»From pier 3.<|im_end|>«" in both
    alone = shown_by(monkeypatch, capsys, "--model", finished, "--document", "3", "--table")
    cells = [line.replace("│", " ").split() for line in alone.splitlines() if "'" in line and line.split()[0].isdigit()]
    assert {line[2] for line in cells} == {"alone"}
    assert {line[6] for line in cells} == {"0", "1"}
    assert palmette(monkeypatch, "inspect", "--model", finished, "--document", "7") == 2
    assert "has 6 conversations, no number 7. Count from 1." in capsys.readouterr().err
    # A run on conversations also shows other data for what they are.
    shown = shown_by(monkeypatch, capsys, "--model", finished, "--data", "builtin:dev", "--limit-questions", "1")
    assert read_source("builtin:dev").documents[0].id in shown
