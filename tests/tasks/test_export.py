"""Rows for other trainers: they say what is learned, and read back they are the record that they came from."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palmette.data.chat import Conversation, Part, Turn, read_chat
from palmette.data.preference import Comparison, Verdict
from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.tasks.chat import Chat
from palmette.tasks.export import IGNORED, text_rows, token_rows
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import load_prompt
from palmette.train.steps.step import nll_objective
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from tests.support.command import palmette
from tests.support.models import tiny_llama

ASKED = Turn("user", (Part("When?"),))
PLAIN = load_prompt()


def said(text: str, learn: float | None = None) -> Turn:
    return Turn("assistant", (Part(text, learn),))


def exported(record: Any, target: Any) -> list[dict[str, Any]]:
    return [one.row for one in text_rows([record], target, PLAIN)]


def test_weights_of_turns_are_openai_s_weights_and_read_back(tmp_path: Path) -> None:
    record = Conversation("a", (ASKED, said("No.", 0.0), ASKED, said("At 7:40.", 1.0)))
    (row,) = exported(record, "openai")
    assert [turn.get("weight") for turn in row["messages"]] == [None, 0, None, 1]
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", **row}) + "\n")
    assert read_chat(str(tmp_path / "a.jsonl")).conversations == (record,)
    (row,) = exported(record, "trl")
    assert [turn["content"] for turn in row["prompt"]] == ["When?", "No.", "When?"]
    assert row["completion"] == [{"role": "assistant", "content": "At 7:40."}]


def test_turns_that_are_learned_among_others_are_rows_of_their_own() -> None:
    """As in trees of OpenAssistant, where a turn that several conversations share is learned once. The other
    conversation would be a row of messages, but then rows had different columns.
    """
    one = Conversation("a", (ASKED, said("One."), ASKED, said("Two.", 0.0), ASKED, said("Three.")))
    other = Conversation("b", (ASKED, said("Four.")))
    rows = [row.row for row in text_rows([one, other], "trl", PLAIN)]
    assert [(row["id"], len(row["prompt"]), row["completion"][0]["content"]) for row in rows] == [
        ("a/2", 1, "One."),
        ("a/6", 5, "Three."),
        ("b", 1, "Four."),
    ]
    (whole,) = text_rows([other], "trl", PLAIN)
    assert list(whole.row) == ["id", "messages"]


def test_texts_are_rows_of_text_or_of_tokens(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their column has another name here. The last token ends the text, and the first one is given."""
    (tmp_path / "t.jsonl").write_text(json.dumps({"content": "At 7:40."}) + "\n")

    def export(*words: Any) -> list[dict[str, Any]]:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        command = ("data", "export", tmp_path / "t.jsonl", "--rename", "text=content", "--out", out, *words)
        assert palmette(monkeypatch, *command) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    assert export() == [{"text": "At 7:40."}]
    (row,) = export("--format", "tokens", "--model", tiny_folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    end = tokenizer.eos_token_id
    assert row["input_ids"] == [end, *tokenizer("At 7:40.")["input_ids"], end]
    assert row["weights"] == [0.0] + [1.0] * (len(row["input_ids"]) - 1)
    capsys.readouterr()
    words = ("data", "export", tmp_path / "t.jsonl", "--rename", "text=content", "--out", tmp_path / "o.jsonl")
    assert palmette(monkeypatch, *words, "--format", "openai") == 2
    assert "OpenAI's files have no place for texts" in capsys.readouterr().err


def test_what_trl_cannot_say_is_refused_and_what_is_rounded_is_said() -> None:
    nothing = Conversation("a", (ASKED, said("One.", 0.0)))
    with pytest.raises(DataError, match=r"'a' learns no turn, and TRL's rows .* --format openai"):
        exported(nothing, "trl")
    assert [turn.get("weight") for turn in exported(nothing, "openai")[0]["messages"]] == [None, 0]
    asking = Conversation("a", (Turn("user", (Part("When?", 1.0),)), said("One.")))
    for target in ("trl", "openai"):
        with pytest.raises(DataError, match=r"'a' learns turn 1, which is of the user, .* --format tokens"):
            exported(asking, target)
    half = Conversation("a", (ASKED, Turn("assistant", (Part("At ", 0.0), Part("7:40.", 0.5)))))
    (one,) = text_rows([half], "openai", PLAIN)
    assert (one.rounded, one.row["messages"][-1]["weight"]) == (True, 1)


def test_preferences_are_read_back_from_both_formats(tmp_path: Path) -> None:
    pair = Comparison("a", (ASKED,), ("At 7:40.", "No."))
    for target in ("trl", "openai"):
        (row,) = exported(pair, target)
        (tmp_path / f"{target}.jsonl").write_text(json.dumps({"id": "a", **row}) + "\n")
        assert read_comparisons(str(tmp_path / f"{target}.jsonl")).records == (pair,)
    verdict = Verdict("a", (ASKED,), "No.", False)
    (row,) = exported(verdict, "trl")
    (tmp_path / "v.jsonl").write_text(json.dumps({"id": "a", **row}) + "\n")
    assert read_verdicts(str(tmp_path / "v.jsonl")).records == (verdict,)
    with pytest.raises(DataError, match="no place for verdicts"):
        exported(verdict, "openai")


def test_questions_are_the_conversation_that_palmette_trains_on(tokenizer: PreTrainedTokenizerFast) -> None:
    """The template of the tokenizer over the exported messages gives the very text of the training branch."""
    document = read_source("builtin:dev").documents[0]
    rows = exported(document, "trl")
    tree = ExtractiveQa(ChatTemplate(tokenizer)).training_tree(document)
    trunk = [token for segment in tree.root.segments for token in segment.tokens]
    assert len(rows) == len(tree.root.children) > 2
    for row, branch in zip(rows, tree.root.children, strict=True):
        text = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
        tokens = [*trunk, *(token for segment in branch.segments for token in segment.tokens)]
        assert text.startswith(tokenizer.decode(tokens))
        assert row["id"] == branch.name


def test_rows_of_tokens_have_the_loss_of_the_tree(tokenizer: PreTrainedTokenizerFast) -> None:
    """Each row by itself, through the stock model, weighted by its weights: the sum is the loss of the packed trees.
    Turns that two conversations share count in one of the rows.
    """
    conversations = [
        Conversation("a", (ASKED, said("At 7:40.", 0.5), ASKED, said("So be it."))),
        Conversation("b", (ASKED, said("At 7:40.", 0.5), Turn("user", (Part("Why?"),)), said("It is so."))),
    ]
    documents = read_source("builtin:dev", limit_documents=2).documents
    template = ChatTemplate(tokenizer)
    trees = [*Chat(template).trees(conversations), *(ExtractiveQa(template).training_tree(one) for one in documents)]
    rows = list(token_rows(trees))
    assert len(rows) == 2 + sum(len(document.questions) for document in documents)
    model, stock = (tiny_llama(vocab_size=len(tokenizer)) for _ in range(2))
    stock.set_attn_implementation("sdpa")
    batches = PackedBatch.pack(trees, row_tokens=8192, tokens_per_batch=8192)
    total = sum(batch.learn_weight for batch in batches)
    with torch.no_grad():
        loss = sum(nll_objective(model, batch, total).item() for batch in batches)
        expected = weight = 0.0
        for row in rows:
            ids, weights = torch.tensor([row["input_ids"]]), torch.tensor(row["weights"], dtype=torch.float64)
            labels = torch.tensor(row["labels"])
            assert torch.equal(labels != IGNORED, weights != 0)
            logprobs = torch.log_softmax(stock(input_ids=ids, use_cache=False).logits[0], dim=-1)
            own = logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0]
            expected -= float((weights[1:] * own).sum())
            weight += float(weights.sum())
    assert weight == pytest.approx(total)
    assert loss == pytest.approx(expected / total, abs=1e-9)


def test_the_commands_show_and_export(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.json"
    source.write_text(json.dumps([{"instruction": "Add [b].", "input": "1 + 1", "output": "2", "extra": 1}]))
    assert palmette(monkeypatch, "data", "show", source) == 0
    shown = capsys.readouterr().out
    assert "conversations\nform: Alpaca (instruction, input, output)\ncolumns that are not used: extra" in shown
    assert "  [user]: Add [b]." in shown
    assert "  assistant: 2\n" in shown
    for target in ("trl", "openai", "tokens"):
        out = tmp_path / f"{target}.jsonl"
        assert (
            palmette(monkeypatch, "data", "export", source, "--format", target, "--out", out, "--model", tiny_folder)
            == 0
        )
        assert len(out.read_text().splitlines()) == 1
    assert palmette(monkeypatch, "data", "export", source, "--out", tmp_path / "trl.jsonl") == 2
    odd = tmp_path / "odd.jsonl"
    odd.write_text('{"ask": "When?", "reply": "At 7:40."}\n')
    assert palmette(monkeypatch, "data", "show", odd) == 2
    assert "since they have 'ask', 'reply'. Name the columns: --rename" in capsys.readouterr().err
    assert palmette(monkeypatch, "data", "show", odd, "--rename", "prompt=ask", "--rename", "completion=reply") == 0


def test_nothing_in_the_data_reaches_the_terminal_as_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "When\x1b]0;owned\x07?\nSay.", "completion": "At \u202e7:40.", "odd\x1b[2J": 1}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    assert palmette(monkeypatch, "data", "show", tmp_path / "a.jsonl") == 0
    shown = capsys.readouterr().out
    assert "  [user]: When ]0;owned ?\nSay." in shown
    assert "columns that are not used: odd [2J" in shown
    assert {"\x1b", "\x07", "\u202e"}.isdisjoint(shown)


def test_the_way_out_is_a_line_for_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "my data.jsonl"
    source.write_text('{"messages": []}\n')
    assert palmette(monkeypatch, "data", "export", source, "--out", tmp_path / "out.jsonl") == 2
    assert f"data check {shlex.quote(str(source))}" in capsys.readouterr().err.replace("\n", " ")
