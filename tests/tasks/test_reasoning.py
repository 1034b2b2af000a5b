"""What stands before the answer: placeholders that only take up positions, and rationales; the same in training and
in answering.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from palmette.decode.effort import Effort
from palmette.decode.generation import GenerationDecoder
from palmette.decode.greedy import GreedyDecoder
from palmette.decode.span_decoder import SpanDecoder
from palmette.errors import DataError, ModelError
from palmette.model.forward import logits_at
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import Node, PrefixTree, lay_out
from palmette.tree.segments import Segment
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.models import tiny_llama
from tests.support.tasks import DOCUMENT, task_with

BLAH = Reasoning("blah", 4)


def test_placeholders_only_move_what_follows(tokenizer: Any) -> None:
    with_blah = lay_out(task_with(tokenizer, BLAH).training_tree(DOCUMENT))
    without = lay_out(task_with(tokenizer, Reasoning()).training_tree(DOCUMENT))
    hidden = [index for index, attend in enumerate(with_blah.attend) if not attend]
    assert len(hidden) == 4 * len(DOCUMENT.questions)
    assert not any(with_blah.learn[index] for index in hidden)
    assert sum(with_blah.learn) == sum(without.learn)
    seen = [index for index in range(len(with_blah)) if index not in hidden]
    assert [with_blah.token[index] for index in seen] == without.token
    moved = [with_blah.position[i] - without.position[k] for k, i in enumerate(seen)]
    learned = [learn > 0 for learn in without.learn]
    assert moved == [4 if is_completion else 0 for is_completion in learned]


@pytest.mark.parametrize("learn", ["full", "assistant", {"reasoning": 1.0, "answer": 1.0}])
def test_placeholders_are_never_learned(tokenizer: Any, learn: Any) -> None:
    row = lay_out(task_with(tokenizer, BLAH, learn=learn).training_tree(DOCUMENT))
    assert any(row.learn)
    assert not any(learn for learn, attend in zip(row.learn, row.attend, strict=True) if not attend)


def test_spans_after_placeholders_are_those_of_a_row_with_a_gap(tokenizer: Any) -> None:
    """A plain row without the placeholders, its positions as if they had been there: transformers' own model, no
    mask of ours.
    """
    decoder_model, plain = (
        tiny_llama(torch.float64, name, vocab_size=len(tokenizer)) for name in ("palmette_sdpa", "sdpa")
    )
    effort = Effort(max_passes=None, tokens_per_pass=None)
    question = DOCUMENT.questions[0]
    asked = replace(DOCUMENT, questions=(question,))
    odds = {}
    for reasoning in (BLAH, Reasoning()):
        ((_, posterior),) = SpanDecoder(decoder_model, tokenizer, effort=effort, reasoning=reasoning).posteriors(
            [asked]
        )
        odds[reasoning.kind] = {text: log_odds for text, _, log_odds in posterior.spans}["granite"]
    task, logprobs = task_with(tokenizer, Reasoning()), {}
    for answer in ("granite", "?"):
        answers = question.answers if answer == "granite" else ()
        tree = task.training_tree(replace(DOCUMENT, questions=(replace(question, answers=answers),)))
        row = lay_out(tree)
        tags = [s.tag for node in tree.nodes() for s in node.segments for _ in s.tokens]
        opening, first, end = tags.index("opening"), tags.index("answer"), tags.index("closing")
        positions = [index + (4 if index >= opening else 0) for index in range(len(row))]
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([row.token]), position_ids=torch.tensor([positions])).logits[0]
        found = logits.log_softmax(-1)
        logprobs[answer] = sum(float(found[i - 1, row.token[i]]) for i in range(first, end + 1))
    assert odds["blah"] == pytest.approx(logprobs["granite"] - logprobs["?"], abs=1e-9)
    assert abs(odds["blah"] - odds["none"]) > 1e-6, "the placeholders change nothing at all"


def test_greedy_completions_grow_after_placeholders(tokenizer: Any) -> None:
    """Token by token on a packed row of prompt, placeholders and the completion so far."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    task = task_with(tokenizer, BLAH)
    asked = [(DOCUMENT, question) for question in DOCUMENT.questions]
    found = dict(GreedyDecoder(model, tokenizer, task, max_new_tokens=4).completions(asked))
    for index, (document, question) in enumerate(asked):
        opened, completion = task.open_completion(document.text, question.text), ()
        assert len(opened.placeholders) == 4
        for _ in range(4):
            prompt = Segment((*opened.root, *opened.document, *opened.question))
            parts = (prompt, Segment(opened.placeholders, attend=False), Segment(completion))
            batch = PackedBatch.from_trees([[PrefixTree(Node(parts))]])
            last = len(prompt.tokens) + 4 + len(completion) - 1
            with torch.no_grad():
                best = int(logits_at(model, batch, torch.tensor([last])).argmax())
            if best == task.end_of_turn():
                break
            completion = (*completion, best)
        assert found[index] == tokenizer.decode(list(completion))


def test_rationales_are_learned_or_only_read(tokenizer: Any) -> None:
    questions = tuple(replace(q, rationale=f"It says so: {q.id}.") for q in DOCUMENT.questions)
    for learn, weight in (("assistant", 1.0), ("answer", 0.0), ({"answer": 1.0, "reasoning": 0.5}, 0.5)):
        task = task_with(tokenizer, Reasoning("rationale"), "json_think", learn=learn)
        tree = task.training_tree(replace(DOCUMENT, questions=questions))
        for question, branch in zip(questions, tree.root.children, strict=True):
            (reasoning,) = [segment for segment in branch.segments if segment.tag == "reasoning"]
            assert (reasoning.text, reasoning.learn, reasoning.attend) == (f"{question.rationale}\n", weight, True)
            completion = branch.segments[branch.segments.index(reasoning) :]
            text = tokenizer.decode([token for segment in completion[:-1] for token in segment.tokens])
            answer = question.answers[0].text if question.answers else ""
            assert (task.prompt.read(text).text, task.prompt.read(text).valid) == (answer, True)
            assert task.prompt_tokens(DOCUMENT, question)[-1] != completion[0].tokens[0]


def test_what_cannot_be_is_refused(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"'q1' has no rationale"):
        task_with(tokenizer, Reasoning("rationale"), "json_think").training_tree(DOCUMENT)
    with pytest.raises(DataError, match="asks for JSON alone"):
        task_with(tokenizer, Reasoning("rationale"))
    model = tiny_llama(vocab_size=len(tokenizer))
    with pytest.raises(DataError, match="needs a limit"):
        SpanDecoder(model, tokenizer, load_prompt("json_think"), reasoning=Reasoning("rationale"))
    with pytest.raises(ModelError, match="cannot insert"):
        GenerationDecoder(model, tokenizer, task_with(tokenizer, BLAH))


def test_a_run_keeps_its_reasoning(
    tiny_folder: Path,
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Trained with placeholders, a run is asked with them, by both decoders, without being told so; inspect shows
    them hidden.
    """
    settings = {
        "output": str(tmp_path / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(squad_file(tmp_path / "data.json"))]},
        "prompt": {"name": "json"},
        "reasoning": {"kind": "blah", "tokens": 3},
        "lora": {"rank": 2},
        "train": {"epochs": 1},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    assert palmette(monkeypatch, "train", "sft", tmp_path / "recipe.yaml") == 0
    seen: list[Reasoning] = []
    build = ExtractiveQa.open_completion

    def noted(self: ExtractiveQa, document: str, question: str) -> Any:
        seen.append(self.reasoning)
        return build(self, document, question)

    monkeypatch.setattr(ExtractiveQa, "open_completion", noted)
    for decoder in ("span", "greedy"):
        out = tmp_path / decoder
        options = ("--model", tmp_path / "run", "--data", tmp_path / "data.json", "--out", out, "--decoder", decoder)
        assert palmette(monkeypatch, "eval", "squad", *options) == 0
        assert json.loads((out / "evaluation.json").read_text())["reasoning_limit"] is None
        free = ("--model", tmp_path / "run", "--data", tmp_path / "data.json", "--out", tmp_path / f"{decoder}-free")
        assert palmette(monkeypatch, "eval", "squad", *free, "--decoder", decoder, "--reasoning-limit", "2") == 0
        about = json.loads((tmp_path / f"{decoder}-free" / "evaluation.json").read_text())
        assert (about["decoder"], about["reasoning_limit"]) == (decoder, 2)
    assert seen
    assert set(seen) == {Reasoning("blah", 3)}
    capsys.readouterr()
    assert palmette(monkeypatch, "inspect", "--model", tmp_path / "run") == 0
    first = tokenizer.decode(ChatTemplate(tokenizer).encoder.content(" blah")[:1])
    assert capsys.readouterr().out.count(f"({first})") >= 3
