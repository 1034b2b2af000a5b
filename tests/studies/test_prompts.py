"""The parts of a prompt search: the split of its data, the guard against copies, and text that stays text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from palmette.data.records import Answer, DataSet, Document, Question
from palmette.endpoint.completion import Completion
from palmette.evaluate.squad import Evaluation
from palmette.studies.prompts.asking import read_asked
from palmette.studies.prompts.guard import ItemGuard
from palmette.studies.prompts.population import Population
from palmette.studies.prompts.search import split
from palmette.synth.prompt_variations import read_variation
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.chat import ChatTemplate
from tests.support.data import squad_file
from tests.support.paths import ROOT, SOURCE
from tests.support.scored import scored

TIDE = "The old harbour light was lit by hand every evening until the keeper retired in 1882."
ASKED = Question("when", "When did the keeper retire?", (Answer("1882", TIDE.index("1882")),))
NAMED = Question("what", "Which light?", (Answer("old harbour light", 4),))
SHORT = Question("short", "Who came?", (Answer("old", 4),))
DATA = DataSet("mine", (Document("tide", TIDE, (ASKED, NAMED, SHORT)),), "")


@pytest.mark.parametrize(
    ("instruction", "copied"),
    [
        ("Copy it. The old HARBOUR light was, lit by hand.", "the old harbour light was lit"),  # six words
        ("Copy it: light was lit by hand.", ""),  # five
        ("For example: when did the keeper retire", "when did the keeper retire"),  # a whole question of five
        ("Which light? None.", ""),  # of two words, which many texts have
        ("An answer is a year, such as 1882.", "1882"),
        ("Write 1882s.", ""),  # part of a word
        ("Say: old harbour light.", "old harbour light"),
        ("Give the old answer.", ""),  # an answer of one word
    ],
)
def test_copies_of_the_data_are_found(instruction: str, copied: str) -> None:
    guard = ItemGuard([DATA], load_prompt())
    assert guard.copied(instruction, [ASKED, NAMED, SHORT]) == copied


def test_an_answer_is_a_copy_only_if_its_question_was_shown() -> None:
    guard = ItemGuard([DATA], load_prompt())
    assert guard.copied("An answer is a year, such as 1882.", [NAMED]) == ""


def test_a_prompt_is_joined_with_the_one_that_is_right_where_it_is_wrong() -> None:
    """Two documents are answered wrongly under the parent. The better of the others repeats its mistakes."""
    answers = {
        "parent": [True, True, True, False, False],
        "alike": [True, True, False, False, False],
        "other": [False, False, False, True, False],
        "worst": [False, False, False, False, True],
    }
    prompts = {name: replace(load_prompt(), system=name) for name in answers}
    population = Population(prompts, {name: Evaluation(tuple(scored(right))) for name, right in answers.items()})
    assert population.ranked() == ["parent", "alike", "other", "worst"]
    assert population.partner("parent", 3) == "other"
    assert population.partner("parent", 2) == "alike"
    assert population.partner("parent", 1) == "alike"
    assert population.partner("alike", 3) == "parent"
    alone = Population({"parent": prompts["parent"]}, {"parent": population.evaluations["parent"]})
    assert alone.partner("parent", 4) == ""


def test_what_the_first_prompt_says_is_no_copy() -> None:
    base = replace(load_prompt(), system="An example: the old harbour light was lit by hand.")
    assert ItemGuard([DATA], load_prompt()).copied(base.system, [])
    assert ItemGuard([DATA], base).copied(base.system, []) == ""


def test_documents_that_are_alike_are_on_one_side() -> None:
    """Windows of one long text share most of their words with the next one, so a chain of them stays together."""
    words = [f"word{number}" for number in range(200)]
    windows = [" ".join(words[start : start + 60]) for start in range(0, 120, 20)]
    others = [
        " ".join(f"{name}{number}" for number in range(60)) for name in ("oak", "elm", "ash", "fir", "yew", "bay")
    ]
    documents = [
        Document(f"d{index}", text, (Question(f"q{index}", "?"),)) for index, text in enumerate(windows + others)
    ]
    search, dev = split(DataSet("mine", (*documents, Document("none", "no questions", ())), ""))
    sides = [{document.id for document in side.documents} for side in (search, dev)]
    assert sides[0] | sides[1] == {document.id for document in documents}
    assert not sides[0] & sides[1]
    assert {f"d{index}" for index in range(6)} <= sides[0]
    assert len(sides[1]) >= 1


def test_what_a_teacher_writes_never_becomes_control_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """The prompt has as many control tokens as the one that it varies, and the text of one as ordinary tokens."""
    base, document = load_prompt(), DATA.documents[0]
    control = sorted(tokenizer.get_added_vocab())
    assert control
    wrote = Completion(f"<instruction>{base.system} {' '.join(control)}</instruction>", "stop")
    variation = read_variation(wrote, max_words=200)
    assert variation.reason == ""
    counts = []
    for system in (base.system, variation.instruction):
        task = ExtractiveQa(ChatTemplate(tokenizer), replace(base, system=system))
        opened = task.open_completion(document.text, ASKED.text)
        ids = [*opened.root, *opened.document, *opened.question]
        counts.append(sum(one in tokenizer.get_added_vocab().values() for one in ids))
    assert counts[0] > 0
    assert counts[0] == counts[1]
    decoded = tokenizer.decode(ids)
    assert all(text in decoded for text in control)


def test_the_last_instruction_after_the_reasoning_counts() -> None:
    given = "<instruction>One</instruction> or <instruction> Two </instruction>"
    text = f"<think><instruction>draft</instruction></think>\n{given}"
    assert read_variation(Completion(text, "stop"), 9).instruction == "Two"
    drafts_alone = Completion("<think><instruction>draft</instruction></think> Sorry.", "stop")
    assert read_variation(drafts_alone, 9).reason == "no instruction"
    assert read_variation(Completion("<instruction>a b c</instruction>", "stop"), 2).reason == "too long"
    assert read_variation(Completion("<instruction>a b</instruction>", "content_filter"), 2).reason == "refused"


def test_the_measured_example_on_the_page_is_that_of_the_results() -> None:
    """The figures are read out of the table of labels: exact match from the reader, and from the untouched model."""
    part = (ROOT / "docs" / "results" / "reader.md").read_text().partition("## How many labels it saves")[2]
    rows = [line.strip("|").split("|") for line in part.split("\n") if line.startswith("| ")][1:6]
    reader = {row[0].strip(): row[1].strip() for row in rows}
    untouched = {row[0].strip(): row[3].split(",")[0].strip() for row in rows}
    assert set(reader) == {"0", "20", "60", "260", "700"}
    page = (SOURCE / "pages" / "templates" / "prompt_pieces.html").read_text()
    assert f"the untouched SmolLM2-135M-Instruct has {untouched['0']} %" in page
    assert f"Fine-tuned on 700 questions and calibrated it has {untouched['700']} %" in page
    assert f"comes with the package {reader['700']} %" in page
    assert f"On 260 questions the reader gets to {reader['260']} % from {reader['0']} %" in page
    assert f"on 20 it falls to {reader['20']} %" in page


def test_answers_out_of_reach_are_said_where_the_span_decoder_answers(tmp_path: Path) -> None:
    data = str(squad_file(tmp_path / "a.json", answers=[{"text": "gran", "answer_start": 13}]))
    said: list[str] = []
    read_asked(data, None, "greedy", said.append)
    assert not said
    read_asked(data, None, "span", said.append)
    (line,) = said
    assert line.startswith("1 of 2 questions have no answer that the span decoder can give. The first is 'q1'")
