"""Prompts as data, completions read as each of them asks, and which tokens the loss sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from palmette.cli.main import app
from palmette.config.recipes import Recipe
from palmette.data.records import Answer, Document, Question
from palmette.decode.effort import Effort
from palmette.decode.span_decoder import SpanDecoder
from palmette.errors import DataError, RecipeError
from palmette.inference.task import recipe_prompt
from palmette.tasks.extractive_qa import KINDS, ExtractiveQa, learn_weights, qa_messages
from palmette.tasks.qa_prompt import (
    ParsedAnswer,
    describe_prompts,
    load_prompt,
    prompt_names,
    read_completion_loosely,
)
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import lay_out
from tests.support.models import tiny_llama
from tests.support.recipes import parse_recipe

DOCUMENT = Document(
    "tower",
    "The tower is granite.",
    (Question("q1", "Of what?", (Answer("granite", 13),)), Question("q2", "Who?", ())),
)


def test_the_prompts_are_listed() -> None:
    assert prompt_names() == ["echo", "echo_twice", "json", "json_think", "plain", "two_turn"]
    assert all(about for _, about in describe_prompts())
    shown = CliRunner().invoke(app, ["prompts"]).stdout
    assert all(name in shown for name in prompt_names())
    words = load_prompt("json").system.replace(" ", "")
    assert words in CliRunner().invoke(app, ["prompts", "list", "json"]).stdout.replace("\n", "").replace(" ", "")


def test_a_bare_completion_is_the_answer_with_its_blank(tokenizer: Any) -> None:
    """Nothing but the answer and the end of the turn is learned. Where no answer stands, a question mark is."""
    task = ExtractiveQa(ChatTemplate(tokenizer), load_prompt("echo"))
    branches = task.training_tree(DOCUMENT).root.children
    learned = [[(s.tag, s.text) for s in branch.segments if s.learn] for branch in branches]
    assert learned == [
        [("answer", " granite"), ("end", "<|im_end|>")],
        [("answer", "?"), ("end", "<|im_end|>")],
    ]


def test_a_document_is_read_twice_before_its_questions(tokenizer: Any) -> None:
    task = ExtractiveQa(ChatTemplate(tokenizer), load_prompt("echo_twice"))
    trunk = "".join(segment.text for segment in task.training_tree(DOCUMENT).root.segments)
    document = DOCUMENT.text
    assert trunk.endswith(f"Document:\n{document}\n\nThe same document again:\n{document}\n\nQuestion:\n")
    opened = task.open_completion(document, "Who?")
    assert opened.document.count(task.template.encoder.content(document)[0]) >= 2
    assert [*opened.root, *opened.document, *opened.question] == task.prompt_tokens(DOCUMENT, Question("q", "Who?"))
    messages = qa_messages(load_prompt("echo_twice"), DOCUMENT, Question("q", "Who?"))
    assert messages[1]["content"].count(document) == 2


def test_a_bare_prompt_holds_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    words = "system: a\nbefore_document: a\nbefore_question: a\nafter_question: a\nbare: true\n"
    file.write_text(words + "before_answer: 'The answer is '\nafter_answer: ''\n", encoding="utf-8")
    with pytest.raises(DataError, match="is bare, and has a text or a turn around the answer"):
        load_prompt(str(file))


@pytest.mark.parametrize(
    ("prompt", "raw", "text", "valid"),
    [
        ("plain", '{"answer": "granite"}', "granite", True),
        ("plain", '```json\n{"answer": "granite"}\n```', None, False),
        ("json", '```json\n{"answer": "granite"}\n```', "granite", True),
        ("json", ' ```\n{"answer": "?"}\n```\n', "", True),
        ("json", '{"answer": "granite"}', "granite", True),
        ("json", 'So:\n```json\n{"answer": "granite"}\n```', None, False),
        ("json_think", 'So:\n```json\n{"answer": "granite"}\n```', "granite", True),
        ("json_think", 'So:\n```json\n{"answer": "a"}\n```\nor\n```json\n{"answer": "b"}\n```', "b", True),
        ("json_think", '```json\n{"answer": "granite"}\n```\nI hope this helps.', None, False),
        ("json_think", "```json\ngranite\n```", None, False),
        ("echo", " granite", "granite", True),
        ("echo", '"granite"', '"granite"', True),
        ("echo", "?", "", True),
        ("echo", " \n", None, False),
    ],
)
def test_completions_are_read_as_the_prompt_asks(prompt: str, raw: str, text: str | None, valid: bool) -> None:
    found = load_prompt(prompt).read(raw)
    assert (found.text, found.valid) == (raw.strip() if text is None else text, valid)
    loose = load_prompt(prompt).read_loosely(raw)
    assert loose.valid == valid
    assert loose.text == found.text or '"answer"' in raw


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ('<think>Maybe {"answer": "slate"}? No.</think>It is {"answer": "granite", "sure": 1}', "granite"),
        ('<thinking>{"answer": "slate"}</thinking>\n{"answer": "granite"', "granite"),
        ('In the form {"answer": "..."} that is {"answer": "granite"}.', "granite"),
        ('{"answer": "granite"} or rather {"answer": "gran', "granite"),
        ('{"answer": "?"}, I think', ""),
        # Cut off while it was thinking: there is no answer yet.
        ('<think>Maybe {"answer": "slate"}', '<think>Maybe {"answer": "slate"}'),
    ],
)
def test_drafts_and_examples_are_not_read_as_answers(raw: str, text: str) -> None:
    assert read_completion_loosely(raw) == ParsedAnswer(text, False)


@pytest.mark.parametrize("name", ["plain", "json", "json_think"])
def test_a_trained_completion_is_what_reading_and_prompting_expect(name: str, tokenizer: Any) -> None:
    """Prompt and learned completion together are the branch; the completion's text reads as the answer."""
    task = ExtractiveQa(ChatTemplate(tokenizer), load_prompt(name))
    tree = task.training_tree(DOCUMENT)
    for question, branch, answer in zip(DOCUMENT.questions, tree.root.children, ("granite", ""), strict=True):
        segments = [*tree.root.segments, *branch.segments]
        tokens = [token for segment in segments for token in segment.tokens]
        prompt = task.prompt_tokens(DOCUMENT, question)
        assert tokens[: len(prompt)] == prompt
        learned = [token for segment in segments for token in segment.tokens if segment.learn]
        assert learned == tokens[len(prompt) :]
        assert learned[-1] == task.end_of_turn()
        completion = task.prompt.read(tokenizer.decode(learned[:-1]))
        assert (completion.text, completion.valid) == (answer, True)


@pytest.mark.parametrize("name", ["plain", "json", "json_think"])
def test_spans_are_scored_inside_the_prompts_wrapper(name: str, tokenizer: Any) -> None:
    """The decoder's log odds of "granite" against "?" are those of the two training branches, up to the token that
    ends each.
    """
    model = tiny_llama(vocab_size=len(tokenizer))
    decoder = SpanDecoder(model, tokenizer, load_prompt(name), effort=Effort(max_passes=None, tokens_per_pass=None))
    question = DOCUMENT.questions[0]
    ((_, posterior),) = decoder.posteriors([replace(DOCUMENT, questions=(question,))])
    task = ExtractiveQa(ChatTemplate(tokenizer), load_prompt(name))
    logprobs = {}
    for answer in ("granite", "?"):
        answers = (Answer("granite", 13),) if answer == "granite" else ()
        tree = task.training_tree(replace(DOCUMENT, questions=(replace(question, answers=answers),)))
        row = lay_out(tree)
        tags = [s.tag for node in tree.nodes() for s in node.segments for _ in s.tokens]
        first, end = tags.index("answer"), tags.index("closing")
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.token])).logits[0].log_softmax(-1)
        logprobs[answer] = sum(float(logits[i - 1, row.token[i]]) for i in range(first, end + 1))
    found = {text: log_odds for text, _, log_odds in posterior.spans}
    assert found["granite"] == pytest.approx(logprobs["granite"] - logprobs["?"], abs=1e-9)


def learned_kinds(learn: Any, tokenizer: Any) -> dict[str, set[float]]:
    tree = ExtractiveQa(ChatTemplate(tokenizer), learn=learn).training_tree(DOCUMENT)
    kinds: dict[str, set[float]] = {}
    for node in tree.nodes():
        for segment in node.segments:
            if segment.tokens:
                kinds.setdefault(segment.tag or "template", set()).add(segment.learn)
    return kinds


def test_what_is_learned_by_kind(tokenizer: Any) -> None:
    """`full` leaves out the very first token, which nothing predicts; it stands in a segment of the template."""
    kinds = [kind for kind in KINDS if kind not in ("reasoning", "verdict")]
    nothing = {kind: {0.0} for kind in kinds}
    completion = {"opening": {1.0}, "answer": {1.0}, "closing": {1.0}, "end": {1.0}}
    assert learned_kinds("assistant", tokenizer) == {**nothing, **completion}
    assert learned_kinds("answer", tokenizer) == {**nothing, **completion, "opening": {0.0}}
    assert learned_kinds("full", tokenizer) == {**{kind: {1.0} for kind in kinds}, "template": {0.0, 1.0}}
    assert learned_kinds({"answer": 2.0, "question": 0.5}, tokenizer) == {
        **nothing,
        "answer": {2.0},
        "question": {0.5},
    }


def test_full_learns_all_but_the_first_token(tokenizer: Any) -> None:
    tree = ExtractiveQa(ChatTemplate(tokenizer), learn="full").training_tree(DOCUMENT)
    assert tree.learn_weight == tree.num_tokens - 1
    row = lay_out(tree)
    assert row.learn[0] == 0
    plain = lay_out(ExtractiveQa(ChatTemplate(tokenizer)).training_tree(DOCUMENT))
    assert (row.token, row.position, row.predictor) == (plain.token, plain.position, plain.predictor)


def test_trees_that_learn_their_trunk_do_not_share_it(tokenizer: Any) -> None:
    """Each tree's weight counts, so a learned prompt is computed, and learned, once for each."""
    trees = [
        ExtractiveQa(ChatTemplate(tokenizer), learn="full").training_tree(replace(DOCUMENT, id=name)) for name in "ab"
    ]
    row = lay_out(*trees)
    assert sum(row.learn) == sum(tree.learn_weight for tree in trees)
    assert row.node.count(row.nodes.index(("", ""))) == 1, "only the first token, which is not learned, is shared"


@pytest.mark.parametrize(
    ("learn", "message"),
    [({"anwser": 1.0}, "'anwser'"), ({"answer": -1.0}, "weight -1.0"), ({"answer": 0.0}, "no kind"), ({}, "no kind")],
)
def test_weights_that_make_no_sense_are_refused(learn: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        learn_weights(learn)


def test_a_recipe_names_its_prompt_and_changes_it(tmp_path: Path) -> None:
    recipe = parse_recipe("output: x\nprompt: {name: json, before_question: 'Q: '}\nlearn: answer", "r.yaml")
    assert recipe_prompt(recipe) == replace(load_prompt("json"), before_question="Q: ")
    assert recipe_prompt(Recipe(output="x")) == load_prompt("plain")
    with pytest.raises(RecipeError, match="learn"):
        parse_recipe("output: x\nlearn: everything", "r.yaml")
    own = tmp_path / "own.yaml"
    text = 'system: S\nbefore_document: D\nbefore_question: "\\nQ"\nafter_question: ""\n'
    text += 'before_answer: "{\\"answer\\": \\""\n'
    own.write_text(text + 'after_answer: "\\"}"\n', encoding="utf-8")
    assert load_prompt(str(own)).system == "S"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sytem: S", "unknown key 'sytem'"),
        ("system: S", "lacks 'before_document'"),
        ("system: 3", "has 3 as 'system'|lacks"),
        ("- a", "holds no texts"),
        ("system: [", "cannot read"),
        ("system: S\nsystem: T", "the key 'system' stands twice"),
    ],
)
def test_bad_prompt_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_prompt(str(file))


def test_a_wrapper_that_cannot_be_read_back_is_refused() -> None:
    with pytest.raises(DataError, match="could not be read back"):
        recipe_prompt(parse_recipe("output: x\nprompt: {before_answer: 'Answer: '}", "r.yaml"))
    with pytest.raises(DataError, match=r"no prompt 'jsn'") as caught:
        load_prompt("jsn")
    assert "'json'" in str(caught.value)
